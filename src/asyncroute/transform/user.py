"""What a ``python`` step's function may use.

    from asyncroute.transform.user import Drop, Hold

    def coerce(header, facts):
        if header.get("PatientID") == "TEST":
            raise Drop("a test image")
        header.InstitutionName = facts.calling_aet
        return header

`header` is a pydicom Dataset without pixel data, `facts` a `Facts`; the function returns the Dataset. `Hold` keeps the
image here until a person decides, `Drop` discards it for this destination; both say why.
"""

from __future__ import annotations

from asyncroute.transform.base import Facts

__all__ = ["Drop", "Facts", "Hold"]


class Hold(Exception):
    """This image is not sent: a person has to look."""


class Drop(Exception):
    """This image is not sent, and nobody has to look."""

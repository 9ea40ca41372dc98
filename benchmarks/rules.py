"""A hundred routes over ten attributes, as a hospital with many sites writes them; the last one takes everything."""

from __future__ import annotations

import json
from collections.abc import Sequence

COUNT = 100
_ALIKE = (
    ("Modality", ["CT", "MR", "PT", "US", "XA"]),
    ("StudyDescription", ["re:(?i)knee", "re:(?i)abdomen", "*angio*", "chest", "re:^PET"]),
    ("SeriesDescription", ["scout*", "*1.25 mm", "re:(?i)axial", "*dose*"]),
    ("BodyPartExamined", ["CHEST", "HEAD", "KNEE"]),
    ("InstitutionName", ["Northside General", "Southside*", "re:(?i)clinic"]),
    ("StationName", ["ST01", "ST02", "ST0[3-9]"]),
    ("PatientID", ["TEST*", "P000*", "re:^9{4}"]),
    ("AccessionNumber", ["", "A0000*", "X*"]),
)
_EACH = (
    ("InstanceNumber", ["1..10", "500..999999", "0..499"]),
    ("SOPInstanceUID", ["1.2.840.*", "2.25.9*", "re:^1\\.3\\.6"]),
)
"""What is another one in every image."""


def routes(destinations: Sequence[str], each: bool) -> str:
    """As TOML. ``each``: two of the ten attributes are other ones in every image."""
    attributes = (*_ALIKE, *(_EACH if each else (("Manufacturer", ["ACME*"]), ("PatientSex", ["M", "F"]))))
    tables = []
    for n in range(COUNT - 1):
        some = [attributes[(n * 3 + k) % len(attributes)] for k in range(3)]
        match = {name: values[n // 7 % len(values)] for name, values in some}
        match["calling_aet"] = f"SITE{n:02d}*" if n % 3 else "MOD*"
        tables.append(_route(f"site-{n}", match, destinations))
    return "\n".join([*tables, _route("all", {}, destinations)])


def _route(name: str, match: dict[str, str], destinations: Sequence[str]) -> str:
    conditions = ", ".join(f"{key} = {json.dumps(value)}" for key, value in match.items())
    return f'[[route]]\nname = "{name}"\nmatch = {{ {conditions} }}\nto = {json.dumps(list(destinations))}\n'

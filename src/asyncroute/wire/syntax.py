"""How a transfer syntax encodes a data set: byte order, implicit or explicit VR, deflated or not (PS3.5 §10, annex A).

Guarantees: `syntax_of` never raises and never guesses; a transfer syntax that is neither registered nor in our short
list of recent ones has no known encoding (None).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

_IMPLICIT = frozenset({IMPLICIT_LITTLE, "1.2.840.10008.1.20"})  # the second: Papyrus 3
_DEFLATED = frozenset({DEFLATED_LITTLE, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})  # the others: JPIP
_NO_DATA_SET = frozenset({"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2"})  # MIME and XML, retired
# Registered after many an installed dictionary: JPEG XL (three), deflated frames. All explicit VR little endian.
_RECENT = frozenset(
    {"1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112", "1.2.840.10008.1.2.8.1"}
)

# VRs with a 16-bit length (PS3.5 table 7.1-2). Every other one, also one unheard of, has 2 reserved bytes and 32 bits.
# fmt: off
_SHORT = ("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM",
          "UI", "UL", "US")
# fmt: on
_LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")


class Encoding:
    """One element encoding, as precompiled parts for the hot loops.

    `header` unpacks an element's first 8 bytes: (group, element, VR as a number, 16 bits of length) if explicit, else
    (group, element, length). `item` always unpacks the latter. `length` unpacks a 32-bit length. `forms[vr]` is the
    size in bytes of the header of an element with that VR, 8 or 12, or 0 where the two bytes are no capital letters.
    """

    __slots__ = ("big", "forms", "header", "implicit", "item", "length", "mixed", "name", "names")

    def __init__(self, name: str, *, implicit: bool, big: bool, mixed: bool = False) -> None:
        sign = ">" if big else "<"
        self.name = name
        self.implicit = implicit
        self.big = big
        self.mixed = mixed  # items may be explicit as well: the contents of a UN sequence
        self.item: Callable[..., tuple[Any, ...]] = Struct(sign + "HHI").unpack_from
        self.header = self.item if implicit else Struct(sign + "HHHH").unpack_from
        self.length: Callable[..., tuple[Any, ...]] = Struct(sign + "I").unpack_from
        self.forms = _forms("big" if big else "little")
        self.names = {self.vr_number(vr): vr for vr in _SHORT + _LONG}

    def vr_number(self, vr: str) -> int:
        """The number under which `forms` and `header` know the VR of these two letters."""
        return int.from_bytes(vr.encode("latin-1"), "big" if self.big else "little")

    def vr_name(self, number: int) -> str:
        """The two characters of a VR number."""
        return self.names.get(number) or number.to_bytes(2, "big" if self.big else "little").decode("latin-1")


@lru_cache
def _forms(order: str) -> bytes:
    letters = range(ord("A"), ord("Z") + 1)
    table = bytearray(1 << 16)
    for first in letters:
        for second in letters:
            size = 8 if chr(first) + chr(second) in _SHORT else 12
            table[first << 8 | second if order == "big" else second << 8 | first] = size
    return bytes(table)


IMPLICIT_LE = Encoding("implicit little endian", implicit=True, big=False)
IMPLICIT_BE = Encoding("implicit big endian", implicit=True, big=True)
EXPLICIT_LE = Encoding("explicit little endian", implicit=False, big=False)
EXPLICIT_BE = Encoding("explicit big endian", implicit=False, big=True)
# PS3.5 §6.2.2: UN of undefined length holds implicit VR little endian, whatever is around it; not all writers know.
UN_CONTENT = Encoding("contents of UN", implicit=True, big=False, mixed=True)


class Syntax(NamedTuple):
    """The encoding of the elements, and whether the data set as a whole is deflated (PS3.5 §A.5)."""

    encoding: Encoding
    deflated: bool


@lru_cache(maxsize=256)
def syntax_of(uid: str) -> Syntax | None:
    """How the transfer syntax `uid` (without padding) encodes a data set; None if nobody can know (PS3.5 annex A).

    Encapsulated syntaxes are explicit VR little endian (PS3.5 §A.4).
    """
    if uid in _NO_DATA_SET:
        return None
    if uid in _IMPLICIT:
        return Syntax(IMPLICIT_LE, False)
    if uid == EXPLICIT_BIG:
        return Syntax(EXPLICIT_BE, False)
    if uid in _DEFLATED:
        return Syntax(EXPLICIT_LE, True)
    if uid == EXPLICIT_LITTLE or uid in _RECENT or _registered(uid):
        return Syntax(EXPLICIT_LE, False)
    return None


def is_deflated(uid: str) -> bool:
    """Whether a data set of this transfer syntax is one deflated stream (PS3.5 §A.5)."""
    syntax = syntax_of(uid)
    return syntax is not None and syntax.deflated


def _registered(uid: str) -> bool:
    from pydicom.config import IGNORE
    from pydicom.uid import UID

    return UID(uid, IGNORE).type == "Transfer Syntax"

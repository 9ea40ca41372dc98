"""The kinds of values in a configuration, as types that pydantic checks.

Purpose: AE titles, ports, durations, sizes, paths and so on, each with one check and one wording.
Guarantees: a value of such a type is valid by itself; what depends on other values is checked in `model` (within a
table) and `check` (across tables). Paths are absolute: relative ones are below the configuration file's folder.
Failures: ValueError with a text that follows the key's name: "must be 1..65535, not 70000".
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo

from asyncroute.config.attributes import find_uid
from asyncroute.config.places import placed
from asyncroute.config.units import format_duration, format_size, parse_duration, parse_size
from asyncroute.config.words import Invalid, did_you_mean, one_of, quote, show
from asyncroute.core.outcomes import Action
from asyncroute.core.titles import FACTS as TITLE_FACTS
from asyncroute.core.titles import LONGEST, Template

_LONGEST_NAME = 64
_LONGEST_CERTIFICATE_NAME = 255

Check = Callable[[Any], Any]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid(f"must be text in quotes, not {show(value)}")
    return value


# --- Numbers ---------------------------------------------------------------------------------------------------------


def whole(low: int, high: int | None = None) -> BeforeValidator:
    """A whole number from `low` to `high`."""
    bounds = f"{low}..{high}" if high is not None else f"{low} or more"

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Invalid(f"must be a whole number, {bounds}, not {show(value)}")
        if value < low or value > (high if high is not None else 2**31):
            raise Invalid(f"must be {bounds}, not {show(value)}")
        return value

    return BeforeValidator(check)


def _factor(value: object) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 1 <= number <= 100:
        raise Invalid(f"must be a number, 1..100, not {show(value)}")
    return float(number)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid(f"must be true or false, not {show(value)}")
    return value


Factor = Annotated[float, BeforeValidator(_factor)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Port = Annotated[int, whole(1, 65535)]
ListenerPort = Annotated[int, whole(0, 65535)]


def choice(*words: str) -> BeforeValidator:
    """One of these words."""

    def check(value: object) -> str:
        if value not in words:
            raise Invalid(f"must be {one_of(words)}, not {show(value)}")
        return str(value)

    return BeforeValidator(check)


# --- Durations and sizes ---------------------------------------------------------------------------------------------


def _duration(least: float, never: bool) -> Check:
    def check(value: object) -> float:
        seconds = parse_duration(value)
        if math.isinf(seconds) and not never:
            raise Invalid('cannot be "never": nothing else would end the wait')
        if seconds < least:
            raise Invalid(f'must be "{format_duration(least)}" or more, not {show(value)}')
        return seconds

    return check


Duration = Annotated[float, BeforeValidator(_duration(0, never=False))]
"""Seconds, zero allowed."""
Timeout = Annotated[float, BeforeValidator(_duration(0.1, never=False))]
"""Seconds after which something is given up: neither zero nor never."""
Span = Annotated[float, BeforeValidator(_duration(0, never=True))]
"""Seconds, or inf for ``never``."""
Age = Annotated[float, BeforeValidator(_duration(0.1, never=True))]
"""Seconds, more than zero, or inf for ``never``."""


def size(low: int = 0, high: int | None = None) -> BeforeValidator:
    """A number of bytes from `low` to `high`."""
    bounds = f"{format_size(low)} to {format_size(high)}" if high is not None else f"{format_size(low)} or more"

    def check(value: object) -> int:
        count = parse_size(value)
        if count < low or (high is not None and count > high):
            raise Invalid(f"must be {bounds}, not {show(value)}")
        return count

    return BeforeValidator(check)


Size = Annotated[int, size()]
MaxPdu = Annotated[int, size(4 << 10, 1 << 20)]


# --- Names -----------------------------------------------------------------------------------------------------------


def ae_title(value: object) -> str:
    """An AE title (PS3.5 6.2, AE): 1 to 16 printable ASCII characters without backslash; outer spaces do not count."""
    title = _text(value).strip(" ")
    if not title:
        raise Invalid("must not be empty: an AE title has 1 to 16 characters")
    if len(title) > LONGEST:
        raise Invalid(f"must have at most 16 characters, not {len(title)}: {show(title)}")
    _refuse_odd_characters(title)
    return title


def _refuse_odd_characters(title: str) -> None:
    if not title.isascii() or not title.isprintable() or "\\" in title:
        raise Invalid(f"must be an AE title: printable ASCII characters, no backslash; not {show(title)}")


def title_pattern(value: object) -> str:
    """An AE title in which ``*``, ``?`` and ``[...]`` may stand for other characters."""
    pattern = _text(value).strip(" ")
    if not pattern:
        raise Invalid('must not be empty; "*" is any AE title')
    _refuse_odd_characters(pattern)
    return pattern


MIMIC = "{calling_aet}"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def calling_title(value: object) -> str:
    """A fixed AE title, or one with ``{calling_aet}``, ``{called_aet}`` or ``{listener}`` in it."""
    return title_template(_text(value).strip(" ")).text


def title_template(text: str) -> Template:
    """The same, taken apart. Raises Invalid."""
    parts = tuple(_PLACEHOLDER.split(text))
    own, names = "".join(parts[::2]), parts[1::2]
    if "{" in own or "}" in own:
        raise Invalid(f"has braces that do not match in {quote(text)}")
    for each in names:
        if each not in TITLE_FACTS:
            known = [f"{{{fact}}}" for fact in TITLE_FACTS]
            hint = did_you_mean(f"{{{each}}}", known, f"; there is {', '.join(known)}")
            raise Invalid(f"has {quote(f'{{{each}}}')}, which stands for nothing{hint}")
    if not names:
        return Template(ae_title(text), (text,))
    _refuse_odd_characters(text)
    if len(own) + len(names) > LONGEST:
        raise Invalid(
            f"is always too long: besides what is in braces it has {len(own)} characters, an AE title at most 16"
        )
    return Template(text, parts)


def name(value: object) -> str:
    """A name for people and command lines: printable, no ``@`` or ``/``, at most 64 characters."""
    text = _text(value)
    if not text or text != text.strip() or not text.isprintable() or len(text) > _LONGEST_NAME or set("@/") & set(text):
        raise Invalid(
            f'must be a name: 1 to 64 printable characters without "@", "/" or outer spaces, not {show(text)}'
        )
    return text


def host(value: object) -> str:
    """A host name or an IP address; which of them is reachable is another question."""
    text = _text(value)
    if not text or not text.isprintable() or any(c.isspace() or c in "/@[]" for c in text):
        raise Invalid(f"must be a host name or an IP address, not {show(text)}")
    if ":" in text and not _is_address(text):
        raise Invalid(f'must be a host name or an IP address; the port is the key "port"; not {show(text)}')
    return text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def network(value: object) -> str:
    """An IP address, a network in CIDR notation, or ``*`` for any."""
    text = _text(value)
    if text == "*":
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise Invalid(f"must be an address or a network {_network_hint(text)}, not {show(text)}") from None


def _network_hint(text: str) -> str:
    try:
        return f"({ipaddress.ip_network(text, strict=False)}?)"
    except ValueError:
        return "such as 10.1.0.0/16"


def transfer_syntax(value: object) -> str:
    """The UID of a transfer syntax, given as UID or keyword."""
    return find_uid(_text(value), "Transfer Syntax")


_HEX = re.compile(r"sha256:((?:[0-9a-fA-F]{2}:?){32})")


def certificate_names(value: object) -> tuple[str, ...]:
    """Names of certificates, one or a list: a common name, a DNS name, or ``sha256:`` and the fingerprint in hex."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise Invalid("must name at least one certificate")
    return tuple(_certificate_name(each) for each in values)


def _certificate_name(value: object) -> str:
    name = _text(value)
    if not name or name != name.strip() or not name.isprintable() or len(name) > _LONGEST_CERTIFICATE_NAME:
        raise Invalid(f"must be the name of a certificate, or its fingerprint, not {show(name)}")
    if not name.lower().startswith("sha256:"):
        return name
    found = _HEX.fullmatch("sha256:" + name[7:])
    if not found:
        raise Invalid(f'must be "sha256:" and 64 hex digits, not {show(name)}')
    return "sha256:" + found[1].replace(":", "").lower()


AeTitle = Annotated[str, BeforeValidator(ae_title)]
TitlePattern = Annotated[str, BeforeValidator(title_pattern)]
CallingTitle = Annotated[str, BeforeValidator(calling_title)]
Name = Annotated[str, BeforeValidator(name)]
Host = Annotated[str, BeforeValidator(host)]
CertificateNames = Annotated[tuple[str, ...], BeforeValidator(certificate_names)]
Network = Annotated[str, BeforeValidator(network)]
TransferSyntax = Annotated[str, BeforeValidator(transfer_syntax)]


# --- Lists and paths -------------------------------------------------------------------------------------------------


def _listed(value: object) -> object:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        raise Invalid(f"must be a list in brackets: [{show(value)}]")
    if not isinstance(value, list | tuple):
        raise Invalid(f"must be a list in brackets, not {show(value)}")
    return value


Listed = BeforeValidator(_listed)
"""Marks a tuple that TOML gives as an array."""


def _path(value: object, info: ValidationInfo) -> Path:
    text = str(value) if isinstance(value, Path) else _text(value)
    if not text or "\0" in text:
        raise Invalid("must be a path, not empty")
    base = (info.context or {}).get("base") or Path.cwd()
    try:
        return placed(base, text)
    except RuntimeError:
        raise Invalid(f"has a home folder that is not known: {show(text)}") from None


AbsolutePath = Annotated[Path, BeforeValidator(_path)]
"""A path as written, made absolute: relative to the folder given as ``base`` in pydantic's context."""


# --- Tables of free keys ---------------------------------------------------------------------------------------------

_STATUS = re.compile(r"(?:0[xX])?([0-9A-Fa-f][0-9A-Fa-fxX]{3})")


def conditions(value: object) -> dict[str, Any]:
    """The table of a route's `match` or `unless`; its content is compiled later."""
    if not isinstance(value, dict):
        raise Invalid(f'must be a table, such as {{ Modality = "CT" }}, not {show(value)}')
    return value


def status_pattern(value: object) -> str:
    """A C-STORE status in four hex digits, the last of which may be ``x`` for any digit: ``A900``, ``A7XX``."""
    text = _text(value)
    found = _STATUS.fullmatch(text)
    pattern = found[1].upper() if found else ""
    if not pattern or "X" in pattern.rstrip("X"):
        raise Invalid('is not a status: write four hex digits, such as "A900", "A7xx" or "Cxxx"')
    if int(pattern.replace("X", "0"), 16) == 0:
        raise Invalid("includes success, whose meaning cannot be changed")
    return pattern


StatusPattern = Annotated[str, BeforeValidator(status_pattern)]
OutcomeWord = Annotated[str, choice(*(action.value for action in Action))]

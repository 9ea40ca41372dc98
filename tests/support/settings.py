"""Router configurations for tests: tables with quick defaults, and TOML text from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.ports import HOST, free_port

Table = dict[str, Any]
QUICK_RETRY: Table = {"first": "200ms", "factor": 2, "max": "1s"}


def node(**more: Any) -> Table:
    """A [node] table; the router adds ``data_dir``."""
    return {"name": "test", "min_free": "64 MiB", "drain": "5s", **more}


def listener(**more: Any) -> Table:
    """A [[listener]] on a free port that answers any calling AE title."""
    return {"ae_title": "ASYNCROUTE", "host": HOST, "port": free_port(), **more}


def dicom(name: str, port: int, **more: Any) -> Table:
    """A [[destination]] of kind dicom on the loopback, with quick retries."""
    table = {"name": name, "kind": "dicom", "host": HOST, "port": port, "ae_title": name.upper()[:16]}
    return {**table, "retry": QUICK_RETRY, "max_associations": 2, "connect_timeout": "2s", **more}


def folder(name: str, path: object, **more: Any) -> Table:
    """A [[destination]] of kind folder."""
    return {"name": name, "kind": "folder", "path": str(path), **more}


def route(name: str, to: Sequence[str], **more: Any) -> Table:
    """A [[route]]; ``more`` may hold match, unless, final."""
    return {"name": name, "to": list(to), **more}


def to_toml(config: Mapping[str, Any]) -> str:
    """TOML for tables, arrays of tables and plain values; tables below the second level are written inline."""
    parts: list[str] = []
    for key, value in config.items():
        tables = value if isinstance(value, list) else [value]
        heading = f"[[{key}]]" if isinstance(value, list) else f"[{key}]"
        for table in tables:
            lines = [f"{name} = {_inline(inner)}" for name, inner in table.items()]
            parts.append("\n".join([heading, *lines]))
    return "\n\n".join(parts) + "\n"


def _inline(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(str(key))} = {_inline(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_inline(item) for item in value)}]"
    if isinstance(value, (int, float)):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)

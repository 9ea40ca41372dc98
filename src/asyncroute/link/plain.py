"""Messages between the router and its worker processes: plain values in JSON, bytes beside it as they are.

Plain values are None, bool, int, float, str, bytes-like objects, and lists, tuples and dicts (with str keys) of them;
tuples arrive as lists, bytes-like objects as ``memoryview``s. Nothing else can arrive, whatever the other side sends:
a worker reads what strangers made and may run anybody's code, so its answers are data and never objects (no pickle).
Guarantees: a message is at most ``LARGEST`` bytes; more belongs into a file whose path is sent.
Failures: ``ValueError`` for what is no message; ``TypeError`` for what is no plain value; ``EOFError`` at the end.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

Data = bytes | bytearray | memoryview

LARGEST = 1 << 30
"""Bytes of a message."""

_LARGEST_TEXT = 64 << 20
_HEAD = struct.Struct(">II")
"""Bytes of JSON; bytes-like objects behind it, whose lengths are the first thing in the JSON."""

_BYTES = "\0bytes"


def send(sock: socket.socket, pieces: list[Data], until: float | None = None) -> None:
    """Send a message that was ``packed``; blocks, until then (``time.monotonic``) at most: TimeoutError."""
    for piece in pieces:
        _limit(sock, until)
        sock.sendall(piece)


def receive(sock: socket.socket, until: float | None = None) -> Any:
    """The next message; blocks, until then (``time.monotonic``) at most: TimeoutError."""
    length, count = _HEAD.unpack(_exactly(sock, _HEAD.size, until))
    if length > _LARGEST_TEXT:
        raise ValueError(f"a message of {length} bytes of text")
    sizes, value = json.loads(bytes(_exactly(sock, length, until)))
    if len(sizes) != count or not all(isinstance(n, int) and n >= 0 for n in sizes) or sum(sizes) > LARGEST:
        raise ValueError("a message that does not fit together")
    pieces = [_exactly(sock, size, until) for size in sizes]
    return _with_bytes(value, pieces)


def packed(value: object) -> list[Data]:
    """A message in pieces."""
    pieces: list[Data] = []

    def beside(it: object) -> dict[str, int]:
        if not isinstance(it, bytes | bytearray | memoryview):
            raise TypeError(f"{type(it).__name__} is no plain value")
        pieces.append(it if not isinstance(it, memoryview) or it.contiguous else bytes(it))
        return {_BYTES: len(pieces) - 1}

    body = json.dumps(value, default=beside)
    sizes = [memoryview(piece).nbytes for piece in pieces]
    text = f"[{json.dumps(sizes)},{body}]".encode()
    if sum(sizes) > LARGEST or len(text) > _LARGEST_TEXT:
        raise ValueError(f"a message of {sum(sizes) + len(text)} bytes; {LARGEST} are the most")
    return [_HEAD.pack(len(text), len(pieces)) + text, *pieces]


def _with_bytes(value: Any, pieces: list[memoryview]) -> Any:
    if isinstance(value, list):
        return [_with_bytes(it, pieces) for it in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_BYTES}:
        number = value[_BYTES]
        if not isinstance(number, int) or not 0 <= number < len(pieces):
            raise ValueError("a message that does not fit together")
        return pieces[number]
    return {key: _with_bytes(it, pieces) for key, it in value.items()}


def _limit(sock: socket.socket, until: float | None) -> None:
    sock.settimeout(None if until is None else max(until - time.monotonic(), 0.001))


def _exactly(sock: socket.socket, count: int, until: float | None) -> memoryview:
    """``count`` bytes; read-only."""
    whole = memoryview(bytearray(count))
    at = 0
    while at < count:
        _limit(sock, until)
        n = sock.recv_into(whole[at:])
        if not n:
            raise EOFError("the other side has ended")
        at += n
    return whole.toreadonly()

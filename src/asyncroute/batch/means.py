"""What carrying batches through needs of the rest of the program, and what they all share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from asyncroute.batch.base import Batches
from asyncroute.batch.files import stamp_of
from asyncroute.core.batches import Stamp
from asyncroute.core.model import RouteHit
from asyncroute.journal.base import Action
from asyncroute.link.buffers import Buffer, Memory
from asyncroute.receive.base import Admit

Result = TypeVar("Result")

BUFFER = 1 << 20
"""Bytes of a file that are read at a time; smaller files are read together."""


@dataclass(slots=True)
class Means:
    """``act``: makes an action durable (raises StorageFault). ``full``: why destinations take no more, or None.

    ``spooled``: bytes in the spool; ``free``: that may be written beside them. ``threads``: for what blocks.
    ``unpacked``: a folder of ours for archives.
    ``on_network``: whether a path is on a network file system (blocks).
    """

    admit: Admit
    memory: Memory
    journal: Batches
    act: Callable[[Action], Awaitable[int]]
    full: Callable[[tuple[RouteHit, ...]], str | None]
    spooled: Callable[[], int]
    free: Callable[[], int]
    threads: Executor
    unpacked: Path
    on_network: Callable[[str], bool]
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever results of deliveries are durable."""

    async def blocking(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """``work(*arguments)``, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)

    async def stamp(self, path: str) -> Stamp:
        """By which the entry at ``path`` is known again. Raises OSError."""
        return await self.blocking(lambda: stamp_of(os.lstat(path), self.on_network(path)))

    async def filling(self, buffer: Buffer, work: Callable[..., Result], *arguments: Any) -> Result:
        """``work(*arguments)``, in a thread that writes to ``buffer``: held until it ends, whoever stops waiting."""
        buffer.hold()
        job = asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)
        job.add_done_callback(lambda _: buffer.drop())
        return await asyncio.shield(job)

    async def room(self) -> None:
        """Wait until there is memory for a buffer."""
        while self.memory.short:
            free = asyncio.Event()
            self.memory.when_room(free.set)
            await free.wait()

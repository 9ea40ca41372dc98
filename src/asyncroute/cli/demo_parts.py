"""What ``asyncroute demo`` is made of: the images, the receiving peers and the router, the last two as real processes.

Guarantees: nothing outlives the demo: peers end with their standard input, the router is stopped or killed.
Failures: ``OurFault`` with the last line of the router's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import json
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncroute.cli import files
from asyncroute.cli.files import ImageFile
from asyncroute.core.errors import OurFault
from asyncroute.status.client import Client, NotRunning

STARTING: Final = 30.0
STOPPING: Final = 40.0
_TAGS: Final = ("SOPClassUID", "SOPInstanceUID", "Modality")
RESEARCH_MODALITIES: Final = ("CT", "MR")
Identity = tuple[str, str, str, str]
"""SOP class, SOP instance, transfer syntax, and SHA-256 of the data set's bytes."""


# --- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """An image to send, what pydicom reads as its modality, and what has to arrive."""

    file: ImageFile
    modality: str
    identity: Identity


def samples() -> list[Sample]:
    """The images that pydicom's package brings along. Raises OurFault: there are none."""
    found = importlib.util.find_spec("pydicom")
    folders = found.submodule_search_locations if found else None
    folder = Path(next(iter(folders or ("pydicom",)))) / "data" / "test_files"
    images = files.find([folder]).images if folder.is_dir() else []
    chosen = [sample for image in images if (sample := _sample(image)) is not None]
    if not chosen:
        raise OurFault(f"{folder}: pydicom's sample images are not there")
    return chosen


def _sample(image: ImageFile) -> Sample | None:
    """None for test files whose data set does not say what it is: a router could only hold them.

    Read by pydicom, not as the router reads it: so the demo checks the router's routes, too.
    """
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = pydicom.dcmread(image.path, stop_before_pixels=True, specific_tags=list(_TAGS))
            sop_class, sop_instance, modality = (str(header.get(tag) or "") for tag in _TAGS)
        except Exception:  # whatever pydicom says to a broken file
            return None
    return Sample(image, modality, _identity(image)) if sop_class and sop_instance else None


def _identity(image: ImageFile) -> Identity:
    with image.path.open("rb") as file:
        file.seek(image.offset)
        digest = hashlib.file_digest(file, "sha256")
    return image.sop_class, image.sop_instance, image.transfer_syntax, digest.hexdigest()


# --- the receiving peers ----------------------------------------------------------------------------------------------


class Peer:
    """A receiving peer; ``arrived`` grows while it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ae_title = name.upper()
        self.port = 0
        self.arrived: list[dict[str, Any]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start its process and wait for its port."""
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "asyncroute.cli.demo_peer", self.ae_title),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(STARTING):
            first = await process.stdout.readline()
        if not first:
            raise OurFault(f"the receiving peer {self.name} did not start")
        self.port = int(json.loads(first)["port"])
        self._listening = asyncio.create_task(self._listen(process.stdout), name=f"listen to {self.name}")

    async def _listen(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            self.arrived.append(json.loads(line))

    async def stop(self) -> None:
        """End it and read its last words. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
        if self._listening is not None:
            await self._listening

    def identities(self) -> Counter[Identity]:
        """What arrived, and how often."""
        keys = ("sop_class", "sop_instance", "transfer_syntax", "sha256")
        return Counter(tuple(fact[key] for key in keys) for fact in self.arrived)

    def number_of(self, key: str) -> int:
        """How many different values of ``key`` arrived."""
        return len({fact[key] for fact in self.arrived})


# --- the router -------------------------------------------------------------------------------------------------------


class Router:
    """A router in a process of its own; everything it writes is in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._client = Client(folder / "data")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, peers: Iterable[Peer]) -> None:
        """Start ``asyncroute serve`` and wait until it listens. Raises OurFault: it does not."""
        file = self.folder / "asyncroute.toml"
        file.write_text(configuration(peers), encoding="utf-8")
        with (self.folder / "router.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "asyncroute", "serve", "-c", str(file)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STARTING):
                while not self.port and self._process.returncode is None:
                    await asyncio.sleep(0.02)
                    self.port = await self._listening_port()
        if not self.port:
            raise OurFault(f"the router did not start: {self.last_words()}")

    async def _listening_port(self) -> int:
        try:
            return int((await self.status())["listeners"][0]["port"])
        except NotRunning:
            return 0

    async def status(self) -> dict[str, Any]:
        """See ``status.snapshot.running``."""
        return await asyncio.to_thread(self._client.status)

    async def stop(self) -> int:
        """SIGTERM; the exit status. Raises OurFault: it does not end."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOPPING):
                return await self._process.wait()
        except TimeoutError:
            raise OurFault(f"the router does not stop: {self.last_words()}") from None

    async def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def last_words(self) -> str:
        """The last line of its log."""
        lines = (self.folder / "router.log").read_text("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "its log is empty")


def configuration(peers: Iterable[Peer]) -> str:
    """The router's configuration: everything to the archive, CT and MR to research as well."""
    destinations = "".join(
        _DESTINATION.format(name=peer.name, port=peer.port, ae_title=peer.ae_title) for peer in peers
    )
    return _TOP + destinations + _ROUTES.format(modalities=json.dumps(RESEARCH_MODALITIES))


_TOP = """\
[node]
name = "demo"
data_dir = "data"
min_free = "64 MiB"

[[listener]]
ae_title = "ROUTER"
host = "127.0.0.1"
port = 0
"""
_DESTINATION = """
[[destination]]
name = "{name}"
kind = "dicom"
host = "127.0.0.1"
port = {port}
ae_title = "{ae_title}"
calling_ae_title = "{{calling_aet}}"
max_associations = 6
"""
_ROUTES = """
[[route]]
name = "everything"
to = ["archive"]

[[route]]
name = "ct-and-mr"
match = {{ Modality = {modalities} }}
to = ["research"]
"""

"""The process of the exact receivers: obeys JSON lines on standard input, answers each with one JSON line.

Commands: {"do": "make", "port", "behaviour"}, {"do": WORD, "port", ...} with start, stop, set, stored, take, events or
tally. It ends when its standard input ends, so it cannot outlive the tests.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any

from tests.support.behaviour import Behaviour
from tests.support.receiver_core import Receiver


class Host:
    """All receivers of this process, by port."""

    def __init__(self) -> None:
        self.receivers: dict[int, Receiver] = {}

    async def obey(self, order: dict[str, Any]) -> object:
        """Carry out one command; the answer is for JSON."""
        port = order["port"]
        if order["do"] == "make":
            self.receivers[port] = Receiver(port, Behaviour.from_json(order["behaviour"]))
            return None
        return await self._tell(self.receivers[port], order)

    async def _tell(self, receiver: Receiver, order: dict[str, Any]) -> object:
        match order["do"]:
            case "start":
                await receiver.start()
            case "stop":
                await receiver.stop()
            case "set":
                receiver.set(Behaviour.from_json(order["behaviour"]))
            case "stored":
                return [asdict(stored) for stored in receiver.stored[order["first"] :]]
            case "take":
                return [asdict(stored) for stored in receiver.take()]
            case "events":
                return [asdict(event) for event in receiver.events]
            case "tally":
                return asdict(receiver.tally())
        return None


async def _answer(host: Host, line: bytes) -> dict[str, object]:
    try:
        return {"ok": await host.obey(json.loads(line))}
    except Exception as error:
        return {"error": repr(error)}


async def main() -> None:
    """Obey until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    host = Host()
    while line := await reader.readline():
        answer = await _answer(host, line)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())

"""Users: whose turn it is, what is shared and remembered, when guesses are no longer looked at, what is bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from asyncroute.link.negotiate import Named
from asyncroute.link.users import Users
from asyncroute.receive import identity
from asyncroute.receive.identity import CONGESTION, NOT_VERIFIED, Identities, Rejection
from tests.unit.parts import on_loop, until


class Slow(Users):
    """Users whose verification waits for the test; what the router does around it is real."""

    def __init__(self, **passcodes: bytes) -> None:
        super().__init__({})
        self.passcodes = passcodes
        self.order: list[tuple[str, bytes]] = []
        self.gate = threading.Event()
        self.broken = False

    def stored(self, name: str) -> str:
        return repr(self.passcodes.get(name))

    def verify(self, name: str, passcode: bytes) -> bool:
        assert self.gate.wait(20)
        self.order.append((name, passcode))
        if self.broken:
            raise MemoryError("for scrypt")
        return self.passcodes.get(name) == passcode


class Bench:
    """Identities with slow users, and what they have said."""

    def __init__(self, **passcodes: bytes) -> None:
        self.clock = Clock(asyncio.get_running_loop())
        self.identities = Identities(self.clock)  # type: ignore[arg-type]
        self.users = Slow(**passcodes)
        self.told: list[tuple[str, Rejection | None]] = []

    def ask(
        self, name: str = "anna", passcode: bytes = b"x", peer: str = "10.0.0.1", kind: int = 2, required: bool = True
    ) -> None:
        named = Named(kind, False, name.encode(), passcode)
        self.identities.check(self.users, required, named, peer, lambda *said: self.told.append(said))

    async def answers(self, count: int) -> list[tuple[str, str]]:
        """User and words of so many answers, then none is left."""
        self.users.gate.set()
        await until(lambda: len(self.told) >= count, f"{count} answers")
        found, self.told = self.told, []
        return [(user, refusal[3] if refusal else "") for user, refusal in found]


class Clock:
    """The running loop with a clock of the test's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.run_in_executor = loop.run_in_executor
        self.now = 1000.0

    def time(self) -> float:
        return self.now


def benched(script: Callable[[Bench], object], **passcodes: bytes) -> None:
    @on_loop
    async def body() -> None:
        bench = Bench(**passcodes)
        try:
            await script(bench)  # type: ignore[misc]
        finally:
            bench.users.gate.set()
            bench.identities.close()

    body()


@pytest.mark.parametrize(("kind", "words"), [(1, "without a passcode"), (3, "Kerberos"), (4, "SAML"), (5, "web token")])
def test_what_cannot_be_verified(kind: int, words: str) -> None:
    async def script(bench: Bench) -> None:
        bench.ask(kind=kind)
        (user, refusal), bench.told = bench.told[0], []
        assert refusal is not None
        assert (user, refusal[:3], words in refusal[3]) == ("", NOT_VERIFIED, True)
        bench.ask(kind=kind, required=False)
        assert bench.told == [("", None)], "nobody is named"

    benched(script)


def test_nobody_and_no_passcode() -> None:
    async def script(bench: Bench) -> None:
        bench.identities.check(bench.users, True, None, "a", lambda *said: bench.told.append(said))
        bench.identities.check(bench.users, False, None, "a", lambda *said: bench.told.append(said))
        bench.ask(passcode=b"", required=False)
        codes = [refusal and refusal[:3] for _, refusal in bench.told]
        assert codes == [NOT_VERIFIED, None, NOT_VERIFIED]

    benched(script)


def test_who_was_verified_does_not_wait_again_until_the_passcode_changes() -> None:
    async def script(bench: Bench) -> None:
        bench.ask()
        assert await bench.answers(1) == [("anna", "")]
        bench.users.gate.clear()
        for _ in range(3):
            bench.ask()
        assert bench.told == [("anna", None)] * 3
        bench.ask(peer="10.9.9.9")
        assert len(bench.told) == 4, "from anywhere"
        bench.told.clear()
        bench.users.passcodes["anna"] = b"another"
        bench.ask()
        assert not bench.told
        assert await bench.answers(1) == [("", "user 'anna': wrong passcode, or no such user")]

    benched(script, anna=b"x")


def test_the_same_question_is_asked_once() -> None:
    async def script(bench: Bench) -> None:
        for _ in range(50):
            bench.ask()
        assert await bench.answers(50) == [("anna", "")] * 50
        assert bench.users.order == [("anna", b"x")]

    benched(script, anna=b"x")


def test_addresses_take_turns() -> None:
    """Whatever waits from one, the next address is one verification away."""

    async def script(bench: Bench) -> None:
        for n in range(10):
            bench.ask("anna", b"%d" % n, "10.6.6.6")
        bench.ask("bob", b"y", "10.0.0.2")
        bench.ask("carl", b"z", "10.0.0.3")
        await bench.answers(12)
        names = [name for name, _ in bench.users.order]
        assert names.index("bob") <= 2
        assert names.index("carl") <= 3

    benched(script, anna=b"x", bob=b"y", carl=b"z")


def test_guesses_are_looked_at_more_and_more_rarely() -> None:
    async def script(bench: Bench) -> None:
        async def guess(n: int, **more: str) -> str:
            bench.ask(passcode=b"guess %d" % n, **more)  # type: ignore[arg-type]
            return (await bench.answers(1))[0][1]

        assert ["wrong passcode" in await guess(n) for n in range(5)] == [True] * 5
        waits = []
        for n in range(10):
            assert "too many wrong passcodes" in await guess(100 + n)
            _, until_, _ = bench.identities._suspects["10.0.0.1", "anna"]
            waits.append(until_ - bench.clock.now)
            bench.ask()  # also the right one waits
            assert "too many" in (await bench.answers(1))[0][1]
            bench.clock.now = until_
            assert "wrong passcode" in await guess(200 + n)
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
        assert "wrong passcode" in await guess(300, peer="10.0.0.2"), "another address"
        assert "wrong passcode" in await guess(301, name="bob"), "another user"
        bench.clock.now += 60
        bench.ask()
        assert await bench.answers(1) == [("anna", "")]
        assert ("10.0.0.1", "anna") not in bench.identities._suspects

    benched(script, anna=b"x", bob=b"y")


def test_one_guess_at_a_time_after_the_first_few() -> None:
    async def script(bench: Bench) -> None:
        for n in range(5):
            bench.ask(passcode=b"%d" % n)
        await bench.answers(5)
        bench.clock.now += 2
        bench.users.gate.clear()
        for n in range(5, 15):
            bench.ask(passcode=b"%d" % n)
        assert ["too many" in refusal[3] for _, refusal in bench.told if refusal] == [True] * 9
        await bench.answers(10)
        assert len(bench.users.order) == 6

    benched(script, anna=b"x")


def test_who_is_turned_away_unheard_is_not_locked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(bench: Bench) -> None:
        for n in range(5):
            bench.ask(passcode=b"%d" % n)
        await bench.answers(5)
        bench.clock.now += 2
        with monkeypatch.context() as crowd:
            crowd.setattr(identity, "MOST_WAITING", 0)
            bench.ask()
            assert bench.told.pop()[1][:3] == CONGESTION  # type: ignore[index]
        bench.ask()
        assert await bench.answers(1) == [("anna", "")]

    benched(script, anna=b"x")


def test_old_mistakes_are_forgotten() -> None:
    async def script(bench: Bench) -> None:
        for n in range(20):
            bench.ask(passcode=b"%d" % n)
            assert "wrong passcode" in (await bench.answers(1))[0][1]
            bench.clock.now += identity.FORGIVEN

    benched(script, anna=b"x")


def test_what_waits_and_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MOST_WAITING", 40)
    monkeypatch.setattr(identity, "KNOWN", 10)
    monkeypatch.setattr(identity, "SUSPECTS", 10)

    async def script(bench: Bench) -> None:
        for n in range(30):
            bench.ask(passcode=b"%d" % n)
        crowded = [refusal for _, refusal in bench.told if refusal]
        assert {refusal[:3] for refusal in crowded} == {CONGESTION}
        assert len(crowded) == 30 - identity.MOST_OF_ONE - 1  # one is being looked at
        for n in range(60):
            bench.ask(f"user{n}", b"x", f"10.0.1.{n}")
        assert len(bench.told) == 90 - 40
        await bench.answers(90)
        for n in range(30):
            bench.ask(f"user{n}", b"x", f"10.0.2.{n}")
        await bench.answers(30)
        assert len(bench.identities._known) <= 10
        assert len(bench.identities._suspects) <= 10
        assert (bench.identities._waiting, bench.identities._cases, bench.identities._turns) == (0, {}, {})

    benched(script, **{f"user{n}": b"x" for n in range(0, 60, 2)})


def test_a_failure_while_verifying_refuses_and_the_next_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def script(bench: Bench) -> None:
        bench.users.broken = True
        bench.ask()
        assert (await bench.answers(1))[0][0] == ""
        bench.users.broken = False
        bench.ask()
        assert await bench.answers(1) == [("anna", "")]

    benched(script, anna=b"x")
    assert "MemoryError" in caplog.text


def test_no_passcode_is_ever_in_words(caplog: pytest.LogCaptureFixture) -> None:
    async def script(bench: Bench) -> None:
        named = Named(2, False, b"anna", b"hush-hush")
        assert "hush" not in repr(named)
        bench.ask(passcode=b"hush-hush")
        case = next(iter(bench.identities._cases.values()))
        assert "hush" not in repr(case)
        assert "hush" not in repr(await bench.answers(1))

    benched(script, anna=b"x")
    assert "hush" not in caplog.text

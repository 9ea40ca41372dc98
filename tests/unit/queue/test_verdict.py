"""What follows from each kind of outcome: whose fault it is, what is settled, who waits and for how long."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from asyncroute.core import outcomes
from asyncroute.core.model import Delivery, Settlement
from asyncroute.core.outcomes import REPEAT, SLOW, Action, Kind, Outcome
from asyncroute.core.retry import Backoff
from asyncroute.core.states import DeliveryState
from asyncroute.queue.breaker import THRESHOLD, Breaker
from asyncroute.queue.pace import Pace
from asyncroute.queue.times import Times
from asyncroute.queue.verdict import Verdict
from asyncroute.queue.window import Window
from tests.unit.parts import delivery

NOW = 10_000.0
CLOCK = 0.0
GONE = outcomes.refused()
LOST = outcomes.lost("aborted by the peer", image_in_flight=True)
OK = outcomes.SUCCESS


@dataclass
class Desk:
    """A channel and a ledger that only write down what they are told."""

    retry: Backoff = field(default_factory=Backoff)
    name: str = "pacs"
    window: Window = field(default_factory=lambda: Window(4))
    crowded: bool = False
    """Whether fewer associations would do."""
    stalled: bool = False

    def __post_init__(self) -> None:
        self.breaker = Breaker(Backoff(), lambda: 1.0)
        self.times = Times()
        self.pace = cast(Pace, SimpleNamespace(limited=False))
        self.settled: list[Settlement] = []
        self.let_go: list[int] = []
        self.notes: list[tuple[str, str, str, int | None]] = []
        self.back: list[tuple[int, bool]] = []
        self.delayed: list[tuple[int, float]] = []
        self.verdict = Verdict(self, self.retry, self)

    def again(self, delivery: Delivery, *, first: bool) -> None:
        self.back.append((delivery.instance_id, first))

    def later(self, delivery: Delivery, seconds: float) -> None:
        self.delayed.append((delivery.instance_id, seconds))

    def narrowed(self, text: str, now: float) -> bool:
        return self.crowded

    def clock(self) -> float:
        return CLOCK

    def settle(self, settlement: Settlement, delivery: Delivery, logged: str = "") -> None:
        self.settled.append(settlement)

    def note(self, kind: str, text: str, destination: str, instance_id: int | None = None) -> None:
        self.notes.append((kind, text, destination, instance_id))

    def finished_with(self, delivery: Delivery) -> None:
        self.let_go.append(delivery.instance_id)

    def on(self, outcome: Outcome, what: Delivery | int = 1, now: float = NOW, title: str = "CT_A") -> None:
        self.verdict.on(what if isinstance(what, Delivery) else delivery(what), title, outcome, now)

    @property
    def states(self) -> list[tuple[int, str]]:
        return [(s.instance_id, s.state.word) for s in self.settled]

    def pauses(self, now: float = NOW) -> float:
        """Seconds that the whole destination pauses from ``now``."""
        return max(self.verdict.paused_until(now) - now, 0.0)


# --- one outcome of each kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007])
def test_delivered(status: int) -> None:
    desk = Desk()
    desk.on(outcomes.classify(status, comment="why"), delivery(attempts=2))
    (settlement,) = desk.settled
    assert (settlement.state, settlement.attempts, settlement.status) == (DeliveryState.DELIVERED, 3, status)
    assert bool(settlement.error) == bool(status)
    assert desk.let_go == [1]
    assert desk.back == desk.delayed == []
    assert desk.verdict.state(NOW) == "up"
    assert desk.verdict.last_error == ""


@pytest.mark.parametrize("status", [0x0122, 0x0112, 0x0117, 0x0118, 0x0119, 0x0124, 0x0211, 0x0212])
def test_this_image_is_refused(status: int) -> None:
    desk = Desk()
    desk.on(outcomes.classify(status, comment="no"))
    (settlement,) = desk.settled
    assert (settlement.state, settlement.attempts, settlement.status) == (DeliveryState.FAILED, 1, status)
    assert '"no"' in settlement.error
    assert desk.let_go == [1]
    assert desk.back == desk.delayed == []
    assert desk.pauses() == 0
    assert not desk.breaker.failures


def test_no_context_is_this_image_s_end_alone() -> None:
    desk = Desk()
    desk.on(outcomes.no_context("1.2", "1.2.1"))
    assert desk.states == [(1, "failed")]
    assert desk.pauses() == 0


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0213])
def test_the_destination_is_full(status: int) -> None:
    """It pauses; no attempt is charged, nothing is written, its other images come before this one."""
    desk = Desk()
    image = delivery()
    desk.on(outcomes.classify(status), image)
    assert not desk.settled
    assert not desk.delayed
    assert desk.back == [(1, False)]
    assert image.attempts == 0
    assert 0.2 <= desk.pauses() <= 5
    assert desk.verdict.state(NOW) == "paused"
    assert desk.verdict.state(NOW + 6) == "up"
    assert desk.verdict.paused_until(NOW + 6) == 0


def test_a_destination_that_stays_full_pauses_longer_until_something_passes() -> None:
    desk = Desk()
    now = NOW
    lengths = []
    for _ in range(40):
        desk.on(outcomes.classify(0xA700), now=now)
        lengths.append(desk.pauses(now))
        now += 1000
    assert max(lengths) > 100
    assert max(lengths) <= 600
    desk.on(OK, 2, now)
    desk.on(outcomes.classify(0xA700), now=now)
    assert desk.pauses(now) <= 5


@pytest.mark.parametrize(
    ("status", "limit", "wait"),
    [(0x0110, 5, None), (0x0210, 5, None), (0xA900, 3, 600), (0xC211, 3, 600), (0x0105, 3, 600)],
)
def test_an_image_is_tried_again_a_few_times(status: int, limit: int, wait: float | None) -> None:
    desk = Desk(Backoff(first=10, factor=2, max=100))
    image = delivery()
    for attempt in range(1, limit):
        desk.on(outcomes.classify(status, comment="busy"), image)
        settlement = desk.settled[-1]
        assert (settlement.state, settlement.attempts, settlement.status) == (DeliveryState.READY, attempt, status)
        (_, seconds) = desk.delayed[-1]
        assert settlement.not_before == pytest.approx(time.time() + seconds, abs=5)
        assert image.not_before == settlement.not_before
        assert image.attempts == attempt
        assert seconds == wait if wait else 0 <= seconds <= 10 * 2 ** (attempt - 1)
    assert desk.let_go == []
    desk.on(outcomes.classify(status), image)
    assert desk.states == [(1, "ready")] * (limit - 1) + [(1, "failed")]
    assert desk.settled[-1].attempts == limit
    assert len(desk.delayed) == limit - 1
    assert desk.let_go == [1]
    assert desk.back == []


def test_the_configuration_s_attempts_may_be_fewer() -> None:
    desk = Desk(Backoff(attempts=2))
    image = delivery()
    desk.on(outcomes.classify(0x0110), image)
    desk.on(outcomes.classify(0x0110), image)
    assert desk.states == [(1, "ready"), (1, "failed")]


def test_overrides() -> None:
    desk = Desk()
    desk.on(outcomes.classify(0xA900, {0xA900: Action.DELIVER}), 1)
    desk.on(outcomes.classify(0xA900, {0xA900: Action.FAIL}), 2)
    desk.on(outcomes.classify(0xA900, {0xA900: Action.PAUSE}), 3)
    assert desk.states == [(1, "delivered"), (2, "failed")]
    assert desk.back == [(3, False)]


ASSOCIATION_FAILURES = [
    GONE,
    outcomes.unreachable("no route"),
    outcomes.unresolved("unknown"),
    outcomes.tls_failed("expired"),
    outcomes.rejected(2, 1, 1),
    outcomes.rejected(2, 3, 2),
    outcomes.lost("closed", image_in_flight=False),
]


@pytest.mark.parametrize("outcome", ASSOCIATION_FAILURES, ids=lambda o: o.text)
def test_a_destination_that_is_down_costs_no_image_an_attempt(outcome: Outcome) -> None:
    desk = Desk()
    image = delivery()
    desk.on(outcome, image)
    assert desk.settled == []
    assert desk.back == [(1, True)]
    assert image.attempts == 0
    assert desk.breaker.failures == 1
    assert desk.verdict.last_error == outcome.text
    assert desk.verdict.state(NOW) == ("down" if outcome.loud else "recovering")
    for _ in range(20):
        desk.on(outcome, image, NOW + 1)
    assert desk.settled == []
    assert desk.verdict.state(NOW + 1) == "down"


def test_an_unknown_calling_title_pauses_that_title_only() -> None:
    desk = Desk()
    image = delivery()
    desk.on(outcomes.rejected(1, 1, 3), image, title="CT_A")
    assert desk.settled == []
    assert image.attempts == 0
    assert desk.pauses() == 0
    assert desk.verdict.paused_titles(NOW) == {"CT_A"}
    assert desk.verdict.next_title(NOW) == NOW + SLOW
    assert desk.verdict.state(NOW) == "title-rejected"
    desk.on(outcomes.rejected(1, 1, 3), 2, NOW + 10, title="MR_B")
    assert desk.verdict.paused_titles(NOW + 11) == {"CT_A", "MR_B"}
    assert desk.verdict.next_title(NOW + 11) == NOW + SLOW
    assert desk.verdict.paused_titles(NOW + SLOW + 1) == {"MR_B"}
    assert desk.verdict.paused_titles(NOW + SLOW + 11) == set()
    assert not desk.breaker.failures


def test_a_title_s_pause_is_over_for_status_too() -> None:
    """Also when nothing is left to send under it: nobody may be asked to look at what is no longer so."""
    desk = Desk()
    desk.on(outcomes.rejected(1, 1, 3))
    assert desk.verdict.state(NOW + SLOW - 1) == "title-rejected"
    assert desk.verdict.state(NOW + SLOW + 1) == "up"


@pytest.mark.parametrize("code", [(1, 1, 7), (1, 1, 2), (1, 1, 1), (1, 2, 2), (1, 3, 1)])
def test_what_a_person_must_set_right_pauses_the_destination(code: tuple[int, int, int]) -> None:
    desk = Desk()
    image = delivery()
    desk.on(outcomes.rejected(*code), image)
    assert desk.settled == []
    assert desk.back == [(1, True)]
    assert image.attempts == 0
    assert desk.pauses() == SLOW
    assert desk.verdict.state(NOW) == "rejected"
    assert desk.verdict.state(NOW + SLOW + 1) == "up"
    assert not desk.breaker.failures


# --- strikes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [LOST, outcomes.classify(0xA700)], ids=["association lost", "destination full"])
def test_three_times_while_others_pass_it_is_the_image(outcome: Outcome) -> None:
    desk = Desk()
    for strike in range(2):
        desk.on(outcome, 1)
        desk.on(OK, 100 + strike)
    assert desk.back == [(1, False)] * 2
    desk.on(outcome, 1)
    assert desk.states[-1] == (1, "failed")
    assert desk.let_go[-1] == 1


@pytest.mark.parametrize("outcome", [LOST, outcomes.classify(0xA700)], ids=["association lost", "destination full"])
def test_however_often_if_nothing_else_passes_it_is_the_destination(outcome: Outcome) -> None:
    desk = Desk()
    for _ in range(50):
        desk.on(outcome, 1)
        desk.on(outcome, 2)
    assert desk.settled == []
    desk.on(OK, 3)
    for _ in range(50):
        desk.on(outcome, 1)
    assert desk.states == [(3, "delivered")]


def test_a_poisonous_image_does_not_look_like_a_dead_destination() -> None:
    """It opens no breaker as long as others pass between its blows."""
    desk = Desk()
    for n in range(2):
        desk.on(LOST, 1)
        desk.on(OK, 10 + n)
        assert not desk.breaker.failures
    for n in range(THRESHOLD):
        desk.on(LOST, 20 + n)
    assert desk.verdict.state(NOW) == "down"


def test_strikes_are_forgotten_when_the_image_passes() -> None:
    desk = Desk()
    for n in range(2):
        desk.on(LOST, 1)
        desk.on(OK, 10 + n)
    desk.on(OK, 1)
    for n in range(2):
        desk.on(LOST, 1)
        desk.on(OK, 20 + n)
    assert (1, "failed") not in desk.states


def test_strikes_are_each_image_s_own() -> None:
    desk = Desk()
    for n in range(2):
        for image in (1, 2, 3):
            desk.on(LOST, image)
        desk.on(OK, 10 + n)
    assert [state for _, state in desk.states] == ["delivered", "delivered"]


def test_strikes_are_bounded() -> None:
    desk = Desk()
    for n in range(10_100):
        desk.on(LOST, n)
    assert len(desk.verdict._strikes) <= 10_001


# --- not authorized ---------------------------------------------------------------------------------------------------

DENIED = outcomes.classify(0x0124)


def test_not_authorized_for_five_studies_holds_the_destination() -> None:
    desk = Desk()
    for n in range(4):
        desk.on(DENIED, delivery(n, study_uid=f"1.{n}"))
        desk.on(DENIED, delivery(100 + n, study_uid=f"1.{n}"))
    assert desk.verdict.held is None
    desk.on(DENIED, delivery(5, study_uid="1.5"))
    assert desk.verdict.held is not None
    assert "5 studies in a row" in desk.verdict.last_error
    assert desk.verdict.state(NOW) == "held"
    assert desk.pauses(NOW + 1e9) == float("inf")
    desk.verdict.resume()
    assert desk.pauses() == 0
    assert desk.verdict.state(NOW) == "up"
    desk.on(DENIED, delivery(6, study_uid="1.6"))
    assert desk.verdict.held is None


def test_one_success_in_between_and_it_is_the_images() -> None:
    desk = Desk()
    for n in range(30):
        desk.on(DENIED, delivery(n, study_uid=f"1.{n}"))
        if n % 4 == 3:
            desk.on(OK, 100 + n)
    assert desk.verdict.held is None


# --- give_up ----------------------------------------------------------------------------------------------------------

HOUR = 3600.0


def old(number: int = 1, age: float = 2 * HOUR) -> Delivery:
    return delivery(number, since=CLOCK - age)


@pytest.mark.parametrize(
    "outcome", [GONE, outcomes.classify(0x0110), outcomes.rejected(1, 1, 7)], ids=lambda o: o.text[:12]
)
def test_an_image_that_is_too_old_is_given_up(outcome: Outcome) -> None:
    desk = Desk(Backoff(give_up=HOUR))
    desk.on(OK, 9)
    desk.on(outcome, old(1, HOUR - 60))
    desk.on(outcome, old(2, HOUR + 60))
    assert desk.states[-1] == (2, "failed")
    assert (1, "failed") not in desk.states


def test_nothing_is_given_up_before_the_destination_has_answered_in_this_run() -> None:
    """It may have been down for days before the router was started again: that must not count."""
    desk = Desk(Backoff(give_up=HOUR))
    for n in range(5):
        desk.on(GONE, old(n), NOW + 100 * n)
        desk.on(outcomes.rejected(1, 1, 7), old(n), NOW + 100 * n)
    assert desk.states == []
    desk.on(OK, 9, NOW + 600)
    desk.on(outcomes.classify(0x0110), old(2), NOW + 700)
    assert desk.states[-1] == (2, "failed")


@pytest.mark.parametrize("jump", [-1e9, -86400.0, 86400.0, 1e9])
def test_ages_do_not_follow_the_wall_clock(jump: float) -> None:
    desk = Desk(Backoff(give_up=HOUR))
    desk.on(OK, 9)
    desk.on(outcomes.classify(0x0110), delivery(1, since=CLOCK - 60, queued_at=time.time() + jump))
    assert desk.states[-1] == (1, "ready")


@pytest.mark.parametrize("last", [GONE, outcomes.classify(0x0110)], ids=["association", "image"])
def test_time_in_which_the_destination_was_down_does_not_count(last: Outcome) -> None:
    desk = Desk(Backoff(give_up=HOUR))
    desk.on(OK, 9, NOW - 3 * HOUR)
    for n in range(THRESHOLD):
        desk.on(GONE, delivery(n), NOW - 1.9 * HOUR)
    desk.breaker.until = 0
    desk.on(last, old(), NOW)
    assert (1, "failed") not in desk.states
    desk.on(OK, 7, NOW)
    desk.on(last, old(2, 3.1 * HOUR), NOW)
    assert desk.states[-1] == (2, "failed")


def test_never_is_never() -> None:
    desk = Desk()
    desk.on(GONE, old(1, 1e9))
    desk.on(outcomes.classify(0x0110), old(1, 1e9))
    assert (1, "failed") not in desk.states


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_an_answer_of_any_kind_shows_that_the_destination_is_there() -> None:
    for status in (0, 0xB000, 0x0122, 0x0110, 0xA900):
        desk = Desk()
        for _ in range(THRESHOLD):
            desk.on(GONE)
        desk.on(outcomes.classify(status), 2, NOW + 10)
        assert not desk.breaker.open


def test_a_person_s_resume_ends_every_pause() -> None:
    desk = Desk()
    desk.on(outcomes.rejected(1, 1, 7))
    desk.on(outcomes.rejected(1, 1, 3))
    desk.on(outcomes.classify(0xA700))
    for _ in range(THRESHOLD):
        desk.on(GONE)
    assert desk.breaker.allowed(NOW, 4) == 0
    desk.verdict.resume()
    assert desk.pauses() == 0
    assert desk.verdict.paused_titles(NOW) == set()
    assert desk.breaker.allowed(NOW, 4) == 1


def test_every_kind_is_settled_or_comes_again() -> None:
    """No outcome, of whatever combination, may make a delivery vanish or be there twice."""
    for kind in Kind:
        for limit in (None, 1, 3):
            for delay in (None, REPEAT):
                desk = Desk()
                desk.on(Outcome(kind, "words", charge=bool(limit), limit=limit, delay=delay))
                final = [s for s in desk.settled if s.state is not DeliveryState.READY]
                assert len(final) + len(desk.back) + len(desk.delayed) == 1, (kind, limit)
                assert desk.let_go == ([1] if final else [])


# --- what is written down for the story -------------------------------------------------------------------------------


def test_an_attempt_that_is_not_charged_is_told_once_for_each_that_counts() -> None:
    desk = Desk()
    full = outcomes.classify(0xA700, comment="disk full")
    desk.on(full)
    desk.on(full)  # nothing passed in between: the destination's fault
    assert desk.notes == [("attempt", full.text, "pacs", 1)]
    desk.on(OK, 2)
    desk.on(full)
    assert desk.notes == [("attempt", full.text, "pacs", 1)] * 2


def test_a_success_costs_no_note() -> None:
    desk = Desk()
    for number in range(3):
        desk.on(OK, number)
        desk.verdict.passed(delivery(number))
    assert desk.notes == []


def test_a_destination_that_goes_down_and_comes_back_is_told_each_time() -> None:
    desk = Desk()
    for _ in range(2):
        for _ in range(THRESHOLD + 2):
            desk.on(outcomes.refused())
        desk.on(OK)
    assert desk.notes == [("down", outcomes.refused().text, "pacs", None), ("up", "answers again", "pacs", None)] * 2


def test_a_pause_that_goes_on_is_told_once_until_a_person_acts() -> None:
    desk = Desk()
    title, setting = outcomes.rejected(1, 1, 3, "CT_A"), outcomes.rejected(1, 1, 7)
    for _ in range(3):
        desk.on(title, title="CT_A")
        desk.on(title, title="CT_B")
        desk.on(setting)
    assert [(kind, number) for kind, _, _, number in desk.notes] == [("pause", None)] * 3
    assert "CT_B" in desk.notes[1][1]
    desk.verdict.resume()
    desk.on(setting)
    assert desk.notes[3:] == [("pause", setting.text, "pacs", None)]


def test_a_destination_that_is_held_says_why() -> None:
    desk = Desk()
    for number in range(5):
        desk.on(outcomes.classify(0x0124), delivery(number, study_uid=f"1.{number}"))
    assert desk.notes == [("held", desk.verdict.held, "pacs", None)]


# --- one association too many -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [outcomes.rejected(2, 3, 1), outcomes.rejected(2, 3, 2), outcomes.refused(), outcomes.unanswered("no answer")],
)
def test_one_association_too_many_is_no_failure(outcome: Outcome) -> None:
    """It goes first again, and neither it nor the destination is charged; without others it is a failure."""
    desk = Desk(crowded=True)
    for _ in range(20):
        desk.on(outcome)
    assert desk.back == [(1, True)] * 20
    assert (desk.settled, desk.breaker.failures, desk.verdict.state(NOW)) == ([], 0, "up")
    assert desk.verdict.last_error == outcome.text
    desk.crowded = False
    for n in range(3):
        desk.on(outcome, now=NOW + 10 * n)
    assert (desk.settled, desk.breaker.open, desk.verdict.state(NOW + 20)) == ([], True, "down")


@pytest.mark.parametrize("outcome", [outcomes.rejected(2, 1, 1), outcomes.unreachable("no route")])
def test_others_do_not_excuse_what_is_not_for_want_of_room(outcome: Outcome) -> None:
    desk = Desk(crowded=True)
    desk.on(outcome)
    assert desk.breaker.failures == 1

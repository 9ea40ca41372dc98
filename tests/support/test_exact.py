"""The bench against itself: the exact sender and receiver against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import corpus, synthetic, ul
from tests.support.behaviour import Behaviour
from tests.support.certs import Authority
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_all_there, assert_exactly
from tests.support.exact_sender import Aborted, Caller, Closed, Dripper, Fleet, Rejected, contexts_for, send, send_all
from tests.support.ports import BlackHole, listening
from tests.support.waiting import NotInTime, wait_until

ONE = synthetic.image("one", 0)


def caller(receiver: ExactReceiver) -> Caller:
    """A sender for ``receiver``."""
    return Caller(receiver.port, timeout=10)


def test_every_byte_of_the_corpus_arrives(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    images = corpus.storable()
    assert len(images) > 200
    send_all(caller(receiver), images, associations=3)
    assert_exactly(receiver, images)


def test_the_corpus_has_the_odd_ones() -> None:
    syntaxes = {image.transfer_syntax for image in corpus.storable()}
    assert {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2"} <= syntaxes
    (deflated,) = corpus.named("image_dfl.dcm")
    assert deflated.size % 2 == 1
    assert corpus.unstorable()["no_meta.dcm"] == "no File Meta"


def test_assert_exactly_notices_a_changed_byte(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    send_all(caller(receiver), [synthetic.image("changed", 0)])
    with pytest.raises(AssertionError, match="missing or changed"):
        assert_exactly(receiver, [synthetic.image("changed", 1)])


def test_assert_all_there_notices_a_loss_and_a_changed_byte(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    image, other = synthetic.series("there", 2)
    forged = replace(image, source=other.source)
    send_all(caller(receiver), [forged])
    with pytest.raises(AssertionError, match="lost or changed"):
        assert_all_there([receiver], [image])
    send_all(caller(receiver), [image])
    with pytest.raises(AssertionError, match="other bytes"):
        assert_all_there([receiver], [image])


def test_made_images_are_the_same_each_time_and_of_any_size() -> None:
    kind = synthetic.Kind(size=9_000_000)
    image = synthetic.image("big", 0, kind)
    assert image.sha256 == synthetic.image("big", 0, kind).sha256
    assert sum(map(len, image.chunks(65_536))) == image.size


def test_many_senders_at_once(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver(Behaviour(delay=0.01))
    work = [(Caller(receiver.port, f"S{n}"), synthetic.mixed(f"s{n}", 5)) for n in range(20)]
    Fleet(work).run().assert_clean()
    assert_exactly(receiver, [image for _, images in work for image in images])
    assert {stored.calling for stored in receiver.stored()} == {f"S{n}" for n in range(20)}
    assert receiver.tally().most_at_once > 5


@pytest.mark.parametrize("size", [0, 4096])
def test_pdu_limits_hold_both_ways(receivers: ReceiverHost, size: int) -> None:
    receiver = receivers.receiver(Behaviour(max_pdu=size or 131072))
    images = synthetic.mixed("pdu", 3)
    with Caller(receiver.port).associate(images) as association:
        assert association.echo() == 0
        assert association.peer_max_pdu == (size or 131072)
        assert [association.store(image).status for image in images] == [0, 0, 0]
        association.release()
    assert_exactly(receiver, images)
    receiver.wait_events("released")


def test_statuses_by_turn_and_by_instance(receivers: ReceiverHost) -> None:
    images = synthetic.series("status", 4)
    of = {images[3].sop_instance: 0x0122}
    receiver = receivers.receiver(Behaviour(statuses=[0xA700, 0xB000], status_of=of, comment="no room"))
    report = send(caller(receiver), images)
    assert [result.status for result in report.results] == [0xA700, 0xB000, 0, 0x0122]
    assert report.results[0].comment == "no room"
    assert report.ended == "released"
    assert [image.name for image in report.acknowledged] == [images[2].name]


def test_rejections(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver(Behaviour(reject=(2, 3, 2), trouble_first=1))
    with pytest.raises(Rejected) as caught:
        caller(receiver).associate([ONE])
    assert caught.value.code == (2, 3, 2)
    assert send(caller(receiver), [ONE]).ended == "released"


def test_reject_only_some_callers(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver(Behaviour(reject=(1, 1, 3), reject_calling=["BAD"]))
    assert send(Caller(receiver.port, "GOOD"), [ONE]).ended == "released"
    assert send(Caller(receiver.port, "BAD"), [ONE]).ended.startswith("Rejected: rejected 1/1/3")


ENDINGS: list[tuple[Behaviour, type[Exception]]] = [
    (Behaviour(with_ac="abort"), Aborted),
    (Behaviour(with_ac="release"), ul.WireError),
    (Behaviour(with_ac="half"), TimeoutError),
    (Behaviour(abort_after=5000), Aborted),
    (Behaviour(reset_after=5000), Closed),
    (Behaviour(abort_on=[ONE.sop_instance]), Aborted),
    (Behaviour(mute="store"), TimeoutError),
    (Behaviour(mute="read"), TimeoutError),
]


@pytest.mark.parametrize(
    ("behaviour", "failure"), ENDINGS, ids=["abort", "release", "half", "late-abort", "reset", "poison", "mute", "deaf"]
)
def test_an_association_that_goes_wrong(
    receivers: ReceiverHost, behaviour: Behaviour, failure: type[Exception]
) -> None:
    receiver = receivers.receiver(behaviour)
    sender = Caller(receiver.port, timeout=1, send_pdu=4096)
    with sender.associate([ONE]) as association, pytest.raises(failure):
        association.store(ONE)
    receiver.wait_quiet()


@pytest.mark.parametrize(
    "behaviour", [Behaviour(close_at_connect=True), Behaviour(mute="association")], ids=["closed", "mute"]
)
def test_no_association_at_all(receivers: ReceiverHost, behaviour: Behaviour) -> None:
    receiver = receivers.receiver(behaviour)
    with pytest.raises((Closed, TimeoutError)):
        Caller(receiver.port, timeout=1).associate([ONE])


def test_a_reader_that_stops_blocks_its_sender(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver(Behaviour(mute="read"))
    big = synthetic.image("blocked", 0, synthetic.Kind(size=64_000_000))
    with Caller(receiver.port, timeout=1).associate([big]) as association, pytest.raises(TimeoutError):
        association.store(big)
    assert receiver.events("stops-reading")


def test_contexts_can_be_refused(receivers: ReceiverHost) -> None:
    images = synthetic.mixed("contexts", 3)
    receiver = receivers.receiver(Behaviour(only_transfer=[ul.EXPLICIT_LE], refuse_classes=[ul.VERIFICATION]))
    with caller(receiver).propose(contexts_for(images)) as association:
        assert list(association.results.values()) == [3, 0, 4, 4]
        association.abort()
    receiver.wait_events("aborted")


def test_association_limit(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver(Behaviour(max_associations=1))
    with caller(receiver).associate() as first:
        with pytest.raises(Rejected):
            caller(receiver).associate()
        first.release()
    receiver.wait_quiet()


def test_stop_refuses_and_start_serves_again(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver(start=False)
    with pytest.raises(ConnectionRefusedError):
        caller(receiver).associate()
    receiver.start()
    with caller(receiver).associate() as association:
        receiver.stop()
        assert association.ended_within(5)
    assert not listening(receiver.port)
    receiver.start()
    assert send(caller(receiver), [ONE]).ended == "released"


def test_tls_and_client_certificates(receivers: ReceiverHost, authority: Authority) -> None:
    us, them = authority.issue("sender"), authority.issue("receiver")
    tls = {"certificate": str(them.certificate), "key": str(them.key), "client_ca": str(authority.ca)}
    receiver = receivers.receiver(Behaviour(tls=tls))
    assert send(Caller(receiver.port, tls=authority.client_context(us)), [ONE]).ended == "released"
    stranger = send(Caller(receiver.port, tls=authority.client_context()), [ONE])
    assert stranger.ended.startswith("Closed")
    assert_exactly(receiver, [ONE])


def test_data_sets_can_be_kept(receivers: ReceiverHost, tmp_path: Path) -> None:
    receiver = receivers.receiver(Behaviour(keep_in=str(tmp_path)))
    send_all(caller(receiver), [ONE])
    assert (tmp_path / "1.dataset").read_bytes() == b"".join(ONE.chunks(1000))


def test_dripping(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    sock = caller(receiver).connect()
    request = ul.associate_rq("DRIP", "ANY", contexts_for([]))
    with sock, Dripper([sock], request, every=0.001):
        receiver.wait_events("open", deadline=10)


def test_black_hole_times_out() -> None:
    with BlackHole() as hole, pytest.raises(TimeoutError):
        Caller(hole.port, timeout=0.5).connect()


@pytest.mark.parametrize("condition", [lambda: False, lambda: 0])
def test_waiting_says_what_for(condition: Callable[[], object]) -> None:
    with pytest.raises(NotInTime, match=r"waited 0\.1 s for: rain"):
        wait_until(condition, 0.1, "rain")

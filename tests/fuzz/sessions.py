"""Associations of real programs with a router, recorded: calling it (``callers_of``) and called by it (``answers_to``).

Nothing of it is kept in the repository: the programs run at test time, in a few seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation as AsynchronousOperations
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation as RoleSelection
from pynetdicom.pdu_primitives import UserIdentityNegotiation as UserIdentity

from tests.fuzz.recording import Recorder, Recording
from tests.support import corpus, peers, synthetic, ul
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import Caller, send_all
from tests.support.images import Image, write_part10
from tests.support.ports import HOST, free_port

SMALL = synthetic.Kind(size=2048)
FILES = ("CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "SC_rgb_rle.dcm", "test-SR.dcm")
"""Of pydicom's own: implicit, big endian, compressed, and one without pixels."""

Session = Callable[[Caller], None]


# --- calling the router -----------------------------------------------------------------------------------------------


def callers_of(caller: Caller, folder: Path) -> list[Recording]:
    """What real programs say when they call ``caller``'s router; ``folder`` for their files."""
    images = [synthetic.image("recorded", n, SMALL) for n in range(3)]
    files = [write_part10(image, folder) for image in images]
    real = [corpus.path_of(image) for image in corpus.named(*FILES) if image.size < 100_000]
    sessions = {**_dcmtk(files, real), **_toolkits(files, real), **_exact(images)}
    found = [_recorded(name, session, caller) for name, session in sessions.items()]
    found.append(_orthanc(caller, folder, files))
    return [recording for recordings in found for recording in recordings]


def _recorded(name: str, session: Session, caller: Caller) -> list[Recording]:
    with Recorder(caller.port) as recorder:
        session(Caller(recorder.port, name.upper()[:16], caller.called))
        return recorder.recordings(name)


def _dcmtk(files: Sequence[Path], real: Sequence[Path]) -> dict[str, Session]:
    return {
        "echoscu": lambda c: peers.assert_ran(peers.echoscu(c, "--repeat", 3)),
        "echoscu-pc": lambda c: peers.assert_ran(peers.echoscu(c, "-ppc", 128, "-pts", 38)),
        "echoscu-abort": lambda c: peers.assert_ran(peers.echoscu(c, "--abort")),
        "storescu": lambda c: peers.storescu(c, files),
        "storescu-small": lambda c: peers.storescu(c, files, "-R", "--max-send-pdu", 4096, "-pdu", 4096),
        "storescu-user": lambda c: peers.storescu(c, files[:1], "-R", "-usr", "anna", "-pwd", "secret"),
        "storescu-deflate": lambda c: peers.storescu(c, files, "-R", "+C", "-xd"),
        "dcmsend": lambda c: peers.dcmsend(c, real),
    }


def _toolkits(files: Sequence[Path], real: Sequence[Path]) -> dict[str, Session]:
    return {
        "pynetdicom": lambda c: _assert_stored(peers.pynetdicom_send(c, [*files, *real])),
        "pynetdicom-ext": _extended,
    }


def _assert_stored(statuses: list[int]) -> None:
    assert set(statuses) == {0}, statuses


def _extended(caller: Caller) -> None:
    """An association with every kind of extended negotiation, and a C-ECHO."""
    ae = AE(ae_title=caller.calling)
    ae.add_requested_context(ul.VERIFICATION)
    ae.add_requested_context(synthetic.CT, [ul.IMPLICIT_LE, ul.EXPLICIT_LE, synthetic.JPEG_LOSSLESS])
    role, window, user = RoleSelection(), AsynchronousOperations(), UserIdentity()
    role.sop_class_uid, role.scu_role, role.scp_role = synthetic.CT, True, True
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    user.user_identity_type, user.primary_field, user.secondary_field = 2, b"anna", b"secret"
    association = ae.associate(HOST, caller.port, ae_title=caller.called, ext_neg=[role, window, user])
    assert association.is_established
    assert association.send_c_echo().Status == 0
    association.release()


def _exact(images: Sequence[Image]) -> dict[str, Session]:
    mixed = synthetic.mixed("recorded-mixed", 6, size=1024)
    return {
        "exact": lambda c: _send(c, images),
        "exact-mixed": lambda c: _send(c, mixed),
        "exact-fragments": lambda c: _send(Caller(c.port, c.calling, c.called, send_pdu=512), images),
        "exact-impatient": lambda c: _impatient(c, images),
    }


def _send(caller: Caller, images: Sequence[Image]) -> None:
    send_all(caller, images)


def _impatient(caller: Caller, images: Sequence[Image]) -> None:
    """All at once: every image and the release request without waiting for an answer."""
    with caller.associate(images) as association:
        pieces = [piece for image in images for piece in association.store_pdus(image)]
        association.write(b"".join(pieces) + ul.release_rq())
        for _ in images:
            assert association.read_response()[ul.STATUS] == 0
        assert association.read_pdu()[0] == ul.RELEASE_RP


def _orthanc(caller: Caller, folder: Path, files: Sequence[Path]) -> list[Recording]:
    with Recorder(caller.port) as recorder:
        modalities = {"router": (caller.called, recorder.port)}
        with peers.Orthanc(folder / "orthanc", modalities) as orthanc:
            orthanc.request("POST", "/modalities/router/echo", b"{}")
            orthanc.store("router", [orthanc.upload(path) for path in files])
        return recorder.recordings("orthanc")


# --- called by the router ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def acceptors(folder: Path, receivers: ReceiverHost) -> Iterator[dict[str, int]]:
    """Real programs that take images: {name: port}."""
    with contextlib.ExitStack() as running:
        storescp = running.enter_context(peers.StoreSCP(folder / "storescp", *peers.KEEP_BYTES))
        orthanc = running.enter_context(peers.Orthanc(folder / "acceptor"))
        toolkit = free_port()
        server = _pynetdicom_scp(toolkit)
        running.callback(server)
        exact = receivers.receiver()
        yield {"storescp": storescp.port, "orthanc": orthanc.port, "pynetdicom": toolkit, "exact": exact.port}


def _pynetdicom_scp(port: int) -> Callable[[], None]:
    ae = AE(ae_title="TOOLKIT")
    ae.add_supported_context(synthetic.CT, ul.EXPLICIT_LE)
    ae.add_supported_context(ul.VERIFICATION)
    server = ae.start_server((HOST, port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)])
    assert server is not None
    stop: Callable[[], None] = server.shutdown
    return stop

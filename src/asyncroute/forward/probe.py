"""Whether a destination is there, when nothing waits to be sent to it: by C-ECHO, or by a file in its folder.

Guarantees: an association of its own, which ends with the answer, under the destination's deadlines. A peer that takes
the association but not Verification is there. Nothing stays in a folder. Failures are ``Outcome``s.
"""

from __future__ import annotations

import asyncio
import tempfile

from asyncroute.core import outcomes
from asyncroute.core.outcomes import Kind, Outcome, Scope
from asyncroute.forward.association import Answer, Failed, connect
from asyncroute.forward.base import Forwarder
from asyncroute.forward.dicom import DicomForwarder
from asyncroute.forward.folder import FolderForwarder
from asyncroute.link.negotiate import Proposal
from asyncroute.wire.command import IMPLICIT_LE, VERIFICATION


async def probe(forwarder: Forwarder, title: str) -> Outcome:
    """Ask a destination of whatever kind; ``title``: the calling AE title, where there are any."""
    if isinstance(forwarder, DicomForwarder):
        return await _ask(forwarder, title)
    assert isinstance(forwarder, FolderForwarder)
    return await asyncio.get_running_loop().run_in_executor(forwarder.pool, _write, forwarder)


async def _ask(forwarder: DicomForwarder, title: str) -> Outcome:
    """C-ECHO under the calling AE title ``title``: success, whatever is answered, or why there is no answer."""
    target = forwarder.target
    proposal = Proposal(title, target.called_aet, target.max_pdu, ((VERIFICATION, (IMPLICIT_LE,)),))
    try:
        await forwarder.turn()
        association = await connect(target, proposal, forwarder.means.shared)
    except Failed as failure:
        return failure.outcome
    if association.peer is None or not association.peer.contexts:
        forwarder.release(association)
        return outcomes.SUCCESS
    if association.ended:
        return outcomes.lost("association ended as soon as it was accepted", image_in_flight=False)
    association.owner = answer = Answer()
    association.echo()
    try:
        await answer.came
    except Failed as failure:
        return outcomes.lost(failure.outcome.text, image_in_flight=False)
    except asyncio.CancelledError:
        association.abort()
        raise
    forwarder.release(association)
    return outcomes.SUCCESS


def _write(forwarder: FolderForwarder) -> Outcome:
    """Whether a file can be written in the folder."""
    place = next(folder for folder in (forwarder.path, *forwarder.path.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        text = f"cannot write in {place}: {error.strerror or error}"
        return Outcome(Kind.ASSOCIATION_FAILED, text, scope=Scope.DESTINATION, loud=True)
    return outcomes.SUCCESS

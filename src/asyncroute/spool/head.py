"""What stands before the data set in a spool file: preamble, File Meta, and in it the facts.

Guarantees: ``private`` (of even length) is the end of the head, so that it can be written again in place. ``unlike``
finds every byte of a head that is not what it was written with; of a head that another version wrote, by the names that
it gives itself, every value that says which image it is.
Failures: none.
"""

from __future__ import annotations

from asyncroute.core.model import Delivery, Instance
from asyncroute.spool import facts
from asyncroute.wire.part10 import (
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    Meta,
    NotPart10,
    build_meta,
    parse_meta,
)

PROGRAM = "ASYNCROUTE_"
"""How each version's name begins."""

NOT_OURS = "its header is not the one it was written with"


def head(instance: Instance, private: bytes) -> bytes:
    """The head of ``instance``'s file, ending with ``private``."""
    source = instance.source
    return _meta(instance, source.calling_aet, source.called_aet, private)


def unlike(start: bytes, delivery: Delivery) -> str:
    """Why ``start`` is not the head of ``delivery``'s file; empty: it is."""
    try:
        meta = parse_meta(start)
    except NotPart10:
        return NOT_OURS
    private = meta.private or b""
    packed = facts.unpack(private, meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax)
    if packed is None:
        return NOT_OURS
    if packed.instance_id != delivery.instance_id:
        return f"it is the file of another image (number {packed.instance_id})"
    titles = (packed.source.calling_aet, packed.source.called_aet)
    same = (packed.size, packed.checksum, *titles) == (
        delivery.size,
        delivery.checksum,
        delivery.calling_aet,
        delivery.called_aet,
    )
    if same and (start == _meta(delivery, *titles, private) or _another_version(meta, delivery, len(start))):
        return ""
    return 'its header and the journal do not agree ("asyncroute rebuild --anew" goes by the file)'


def _another_version(meta: Meta, delivery: Delivery, length: int) -> bool:
    """Whether another version of this program wrote this head (of ``length`` bytes) for ``delivery``."""
    return (
        meta.implementation_uid == IMPLEMENTATION_UID
        and meta.implementation_version.startswith(PROGRAM)
        and meta.implementation_version != IMPLEMENTATION_VERSION
        and meta.data_offset == length
        and meta.sop_class_uid == delivery.sop_class_uid
        and meta.sop_instance_uid == delivery.sop_instance_uid
        and meta.transfer_syntax == delivery.transfer_syntax
    )


def _meta(image: Instance | Delivery, calling: str, called: str, private: bytes) -> bytes:
    return build_meta(
        image.sop_class_uid,
        image.sop_instance_uid,
        image.transfer_syntax,
        source_aet=calling,
        sending_aet=calling,
        receiving_aet=called,
        private=private,
    )

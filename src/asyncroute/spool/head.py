"""What stands before the data set in a spool file: preamble, File Meta, and in it the facts.

Guarantees: ``private`` (of even length) is the end of the head, so that it can be written again in place.
Failures: none.
"""

from __future__ import annotations

from asyncroute.core.model import Instance
from asyncroute.wire.part10 import build_meta


def head(instance: Instance, private: bytes) -> bytes:
    """The head of ``instance``'s file, ending with ``private``."""
    source = instance.source
    return build_meta(
        instance.sop_class_uid,
        instance.sop_instance_uid,
        instance.transfer_syntax,
        source_aet=source.calling_aet,
        sending_aet=source.calling_aet,
        receiving_aet=source.called_aet,
        private=private,
    )

"""Images and settlements for tests of journal and spool."""

from __future__ import annotations

from dataclasses import replace

from asyncroute.core.model import Instance, RouteHit, Settlement, Source
from asyncroute.core.states import DeliveryState

SOURCE = Source("CT_A", "ASYNCROUTE", "ROUTER@0.0.0.0:104", "192.0.2.1")
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
T0 = 1_700_000_000.0


def path_of(instance_id: int) -> str:
    """Where an image lies, for tests of the journal alone."""
    return f"{instance_id // 1000:06d}/{instance_id:08d}.dcm"


def image(instance_id: int, *destinations: str, **changes: object) -> Instance:
    """An image that is owed to ``destinations`` by the route "all"; received ``instance_id`` seconds after T0."""
    made = Instance(
        id=instance_id,
        source=SOURCE,
        sop_class_uid=CT,
        sop_instance_uid=f"1.2.3.4.{instance_id}",
        transfer_syntax=EXPLICIT,
        received_at=T0 + instance_id,
        path=path_of(instance_id),
        data_offset=400,
        size=1000 + instance_id,
        checksum=(1 << 64) - instance_id,
        study_uid="1.2.3.4",
        hits=tuple(RouteHit("all", destination) for destination in destinations),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def delivered(instance_id: int, destination: str, status: int = 0) -> Settlement:
    """A success at the first attempt."""
    return Settlement(instance_id, destination, DeliveryState.DELIVERED, 1, T0 + 1000, status)


def failed(instance_id: int, destination: str, error: str = "no") -> Settlement:
    """A dead letter after three attempts."""
    return Settlement(instance_id, destination, DeliveryState.FAILED, 3, T0 + 1000, 0xA900, error)


def retried(instance_id: int, destination: str, not_before: float, attempts: int = 1) -> Settlement:
    """A transient failure."""
    return Settlement(
        instance_id, destination, DeliveryState.READY, attempts, T0 + 1000, 0xA700, "out of resources", not_before
    )

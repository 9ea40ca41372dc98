"""The routers that can be measured, by name."""

from __future__ import annotations

from benchmarks.peers.asyncroute import Asyncroute, FixedTitle
from benchmarks.peers.base import Destination, Peer, Place
from benchmarks.peers.dcmtk import Dcmtk
from benchmarks.peers.orthanc import OrthancDurable, OrthancTuned
from benchmarks.peers.plain import Plain

__all__ = ["OURS", "PEERS", "Destination", "Peer", "Place"]

OURS = "asyncroute"
_ALL: tuple[Peer, ...] = (Asyncroute(), FixedTitle(), OrthancDurable(), OrthancTuned(), Dcmtk(), Plain())
PEERS: dict[str, Peer] = {peer.name: peer for peer in _ALL}

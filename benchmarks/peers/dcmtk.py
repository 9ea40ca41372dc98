"""dcmtk: storescp, and dcmsend of each study that has ended, by a shell script.

storescp serves one association at a time (it forbids --fork together with --exec-on-eostudy), syncs nothing, and what
dcmsend cannot deliver stays where it is: fast because it promises little.
"""

from __future__ import annotations

import shlex

from benchmarks.peers.base import AE_TITLE, Peer, Place
from benchmarks.programs import dcmtk

MAX_PDU = "131072"


class Dcmtk(Peer):
    """See module."""

    name = "dcmtk"
    about = "storescp, dcmsend per study when it ends (2 s); nothing synced, one association at a time"
    one_at_a_time = True

    def missing(self) -> str | None:
        """See ``Peer``."""
        both = dcmtk("storescp") and dcmtk("dcmsend")
        return None if both else "dcmtk is not installed (Debian: dcmtk)"

    def environment(self) -> dict[str, str]:
        """See ``Peer``: dcmtk leaves Nagle's algorithm on otherwise."""
        return {"TCP_NODELAY": "1"}

    def command(self, place: Place) -> list[str]:
        """See ``Peer``."""
        incoming, script = place.folder / "in", place.folder / "forward.sh"
        incoming.mkdir()
        script.write_text(_script(place))
        script.chmod(0o755)
        ended = ["--eostudy-timeout", "2", "--exec-on-eostudy", f"{shlex.quote(str(script))} #p"]
        settings = ["-aet", AE_TITLE, "+xa", "--max-pdu", MAX_PDU, "-od", str(incoming), "-su", "ST"]
        return [str(dcmtk("storescp")), *settings, *ended, str(place.port)]


def _script(place: Place) -> str:
    """Sends all files of the study's folder to each destination, and removes them if all went well."""
    send = f"dcmsend -nh -nuc -aet {AE_TITLE} --max-send-pdu {MAX_PDU}"
    sends = "".join(
        f'xargs -r {send} -aec {each.name} 127.0.0.1 {each.port} < "$list" || ok=0\n' for each in place.destinations
    )
    temporary = shlex.quote(f"{place.folder}/list.XXXXXX")
    return (
        f'#!/bin/sh\nlist=$(mktemp {temporary})\nok=1\nfind "$1" -type f > "$list"\n{sends}'
        'if [ $ok = 1 ]; then xargs -r rm -f < "$list"; rmdir "$1" 2>/dev/null; fi\nrm -f "$list"\nexit 0\n'
    )

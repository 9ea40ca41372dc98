"""asyncroute itself, durable, four lanes per destination, all else default.

Options: ``title`` (``calling_ae_title`` of the destinations), ``launch`` (arguments for ``benchmarks.launch``, instead
of the plain program), ``retry`` (seconds, the longest wait for a destination that is down), ``five`` (five attributes
are changed), ``rules`` (a hundred routes; ``each``: they ask for what differs in every image).
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from benchmarks import rules
from benchmarks.peers.base import AE_TITLE, Peer, Place

ROOT = Path(__file__).resolve().parents[2]
LANES = 4
SENDERS = 2000
CONFIG = "asyncroute.toml"

FIVE = """
[transform.five]
steps = [
  { prefix = "PatientID", with = "AHI-" },
  { suffix = "AccessionNumber", with = "-A" },
  { set = "InstitutionName", to = "Site A Imaging" },
  { set = "ReferringPhysicianName", to = "Site^A" },
  { set = "StationName", to = "SITEA" },
]
"""
"""Five attributes at the top of the header."""


class Asyncroute(Peer):
    """See module."""

    name = "asyncroute"
    about = "durable; images leave under their senders' titles"
    durable = True
    title = "{calling_aet}"

    def command(self, place: Place) -> list[str]:
        """See ``Peer``."""
        file = place.folder / CONFIG
        file.write_text(self._config(place), "utf-8")
        launch = place.options.get("launch")
        program = ["benchmarks.launch", *shlex.split(launch)] if launch else ["asyncroute"]
        return [sys.executable, "-m", *program, "serve", "-c", str(file)]

    def environment(self) -> dict[str, str]:
        """See ``Peer``: the sources, where the package is not installed."""
        path = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, path))}

    def _config(self, place: Place) -> str:
        tables = [
            f'[node]\nname = "bench"\ndata_dir = {json.dumps(str(place.folder / "data"))}\ndurability = "power-loss"\n',
            f'[[listener]]\nae_title = "{AE_TITLE}"\nhost = "127.0.0.1"\nport = {place.port}\n'
            f"max_associations = {SENDERS}\n",
            self._routes(place),
        ]
        title = place.options.get("title", self.title)
        retry = f'retry = {{ first = "1s", max = "{place.options["retry"]}s" }}\n' if "retry" in place.options else ""
        tables += [
            f'[[destination]]\nname = "{each.name}"\nkind = "dicom"\nhost = "127.0.0.1"\nport = {each.port}\n'
            f'ae_title = "{each.name}"\ncalling_ae_title = "{title}"\nmax_associations = {LANES}\n{retry}'
            for each in place.destinations
        ]
        return "\n".join([*tables, FIVE] if "five" in place.options else tables)

    def _routes(self, place: Place) -> str:
        names = [each.name for each in place.destinations]
        if "rules" in place.options:
            return rules.routes(names, place.options["rules"] == "each")
        transform = 'transform = ["five"]\n' if "five" in place.options else ""
        return f'[[route]]\nname = "all"\nto = {json.dumps(names)}\n{transform}'


class FixedTitle(Asyncroute):
    """The same under one title, so that every lane carries everybody's images."""

    name = "asyncroute-fixed"
    about = 'the same, calling_ae_title = "BENCH"'
    title = "BENCH"

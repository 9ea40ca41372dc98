"""Orthanc with automatic forwarding by Lua, as well as that can be done.

One ``SendToModality`` per image, as manuals show it, costs more CPU the longer the backlog gets. So the script collects
what has come while jobs ran: jobs of ``BATCH`` images at most, ``AT_ONCE`` per destination, and an image is deleted
when the last job that has it succeeded; a failed job's images go again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import AE_TITLE, Peer, Place

BATCH = 50
AT_ONCE = 2

_SCRIPT = """
local destinations = {DESTINATIONS}
local waiting, running, owed, jobs = {{}}, {{}}, {{}}, {{}}
for _, name in ipairs(destinations) do waiting[name] = {{}}; running[name] = 0 end

local function start(name)
  while running[name] < {AT_ONCE} and #waiting[name] > 0 do
    local ids, rest = {{}}, {{}}
    for n, id in ipairs(waiting[name]) do
      if n <= {BATCH} then ids[#ids + 1] = id else rest[#rest + 1] = id end
    end
    waiting[name] = rest
    local body = DumpJson({{Resources = ids, Synchronous = false}}, true)
    local job = ParseJson(RestApiPost('/modalities/' .. name .. '/store', body))
    jobs[job['ID']] = {{name = name, ids = ids}}
    running[name] = running[name] + 1
  end
end

local function ended(jobId)
  local job = jobs[jobId]
  if job then jobs[jobId] = nil; running[job.name] = running[job.name] - 1 end
  return job
end

function OnStoredInstance(instanceId, tags, metadata, origin)
  owed[instanceId] = #destinations
  for _, name in ipairs(destinations) do table.insert(waiting[name], instanceId); start(name) end
end

function OnJobSuccess(jobId)
  local job = ended(jobId)
  if not job then return end
  start(job.name)
  for _, id in ipairs(job.ids) do
    owed[id] = owed[id] - 1
    if owed[id] == 0 then owed[id] = nil; RestApiDelete('/instances/' .. id) end
  end
end

function OnJobFailure(jobId)
  local job = ended(jobId)
  if not job then return end
  for _, id in ipairs(job.ids) do table.insert(waiting[job.name], id) end
  start(job.name)
end
"""

_SETTINGS: dict[str, Any] = {
    "RemoteAccessAllowed": False,
    "Plugins": [],
    "MaximumPduLength": 131072,
    "DicomThreadsCount": 8,
    "ConcurrentJobs": 4,
    "JobsHistorySize": 10000,
    "TranscodeDicomProtocol": False,
    "DicomAssociationCloseDelay": 5,
    "MetricsEnabled": False,
    "WebDavEnabled": False,
    "HttpThreadsCount": 4,
    "MaximumStorageCacheSize": 1024,
}


def program() -> str | None:
    """Where Orthanc is: Debian keeps it where users' PATH does not look."""
    return shutil.which("Orthanc", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


class _Orthanc(Peer):
    settings: ClassVar[Mapping[str, Any]] = {}
    in_memory: ClassVar[bool] = False

    def missing(self) -> str | None:
        """See ``Peer``."""
        return None if program() else "Orthanc is not installed (Debian: orthanc)"

    def environment(self) -> dict[str, str]:
        """See ``Peer``: Nagle's algorithm off in the dcmtk inside."""
        return {"TCP_NODELAY": "1"}

    def command(self, place: Place) -> list[str]:
        """See ``Peer``."""
        found = program()
        assert found is not None
        script, config = place.folder / "forward.lua", place.folder / "orthanc.json"
        script.write_text(_script([each.name for each in place.destinations]))
        config.write_text(json.dumps(self._config(place, script), indent=1))
        return [found, str(config)]

    def _config(self, place: Place, script: Path) -> dict[str, Any]:
        storage = str((place.memory if self.in_memory else place.folder) / "storage")
        return {
            "Name": "bench",
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "DicomAet": AE_TITLE,
            "DicomPort": place.port,
            "HttpPort": place.spare_port,
            "DicomModalities": {each.name: [each.name, "127.0.0.1", each.port] for each in place.destinations},
            "LuaScripts": [str(script)],
            **_SETTINGS,
            **self.settings,
        }


def _script(names: list[str]) -> str:
    listed = "{" + ", ".join(f"'{name}'" for name in names) + "}"
    return _SCRIPT.format(DESTINATIONS=listed, BATCH=BATCH, AT_ONCE=AT_ONCE)


class OrthancDurable(_Orthanc):
    """See module."""

    name = "orthanc-durable"
    about = f"Lua, jobs of up to {BATCH} images; each file synced, database and jobs on disk"
    durable = True
    settings: ClassVar[Mapping[str, Any]] = {"SyncStorageArea": True, "StoreMD5ForAttachments": True, "SaveJobs": True}


class OrthancTuned(_Orthanc):
    """See module."""

    name = "orthanc-tuned"
    about = f"Lua, jobs of up to {BATCH} images; nothing synced, all in memory"
    in_memory = True
    settings: ClassVar[Mapping[str, Any]] = {
        "SyncStorageArea": False,
        "StoreMD5ForAttachments": False,
        "SaveJobs": False,
    }

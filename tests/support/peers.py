"""Programs of others as peers: dcmtk's tools, Orthanc, and a plain pynetdicom SCU. All on the loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.support.certs import Identity
from tests.support.exact_sender import Caller
from tests.support.ports import HOST, free_port, listening
from tests.support.waiting import wait_until

# dcmtk leaves Nagle's algorithm on unless told so; each small write may then wait 40 ms for an acknowledgement.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
TRAILING_PADDING = 0xFFFCFFFC
PROGRAM_FOLDERS = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"


def program(name: str) -> str:
    """The path of a peer's program: the system's, since pynetdicom brings scripts named like dcmtk's programs.

    Raises:
        RuntimeError: it is not installed; the test must fail, not be skipped.
    """
    found = shutil.which(name, path=os.pathsep.join([PROGRAM_FOLDERS, os.environ.get("PATH", "")]))
    if found is None:
        raise RuntimeError(f"{name} is not installed (Debian: apt-get install dcmtk orthanc)")
    return found


def run(
    name: str, *arguments: object, timeout: float = 60, nagle: bool = False, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a peer's program to its end; its output in ``stdout``. ``nagle``: as installed, with Nagle's algorithm."""
    return subprocess.run(
        [program(name), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        env={**(os.environ if nagle else ENVIRONMENT), **(env or {})},
        check=False,
    )


def assert_ran(done: subprocess.CompletedProcess[str]) -> None:
    """Check that the program ended with 0.

    Raises:
        AssertionError: with the end of its output.
    """
    assert done.returncode == 0, f"{' '.join(done.args)}: exit {done.returncode}\n{done.stdout[-3000:]}"


def tls_options(identity: Identity | None, ca: Path) -> list[str]:
    """dcmtk's options for TLS with ``identity`` (anonymous without one), trusting ``ca``."""
    if identity is None:
        return ["+tla", "+cf", str(ca)]
    return ["+tls", str(identity.key), str(identity.certificate), "+cf", str(ca)]


def tls_versions(folder: Path, least: str, most: str) -> dict[str, str]:
    """The environment that limits dcmtk's TLS to these versions ("TLSv1.2"); old ones need its option ``+px``, too."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{least}-{most}.cnf"
    old = "CipherString = ALL:@SECLEVEL=0\n" if most < "TLSv1.2" else ""
    limits = f"MinProtocol = {least}\nMaxProtocol = {most}\n{old}"
    file.write_text(f"openssl_conf = top\n[top]\nssl_conf = all\n[all]\nsystem_default = tls\n[tls]\n{limits}")
    return {"OPENSSL_CONF": str(file)}


def echoscu(caller: Caller, *options: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A C-ECHO by dcmtk."""
    titles = ("-aet", caller.calling, "-aec", caller.called)
    return run("echoscu", *titles, *options, HOST, caller.port, timeout=30, env=env)


def storescu(caller: Caller, files: Iterable[Path], *options: object) -> None:
    """Send files by dcmtk's storescu (one transfer syntax for all: see its -x options); insists on success."""
    titles = ("-aet", caller.calling, "-aec", caller.called)
    assert_ran(run("storescu", *titles, *options, HOST, caller.port, *files))


def dcmsend(caller: Caller, files: Iterable[Path], *options: object) -> None:
    """Send files by dcmtk's dcmsend, each in its own transfer syntax; insists on success."""
    titles = ("-aet", caller.calling, "-aec", caller.called)
    assert_ran(run("dcmsend", *titles, *options, HOST, caller.port, *files))


class StoreSCP:
    """dcmtk's storescp, writing into ``folder``; by default it accepts every transfer syntax and keeps the bytes."""

    def __init__(
        self, folder: Path, *options: object, name: str = "STORESCP", env: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self._env = {**ENVIRONMENT, **(env or {})}
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder.with_suffix(".log")
        self._command = [program("storescp"), "--fork", "-aet", name, "-od", str(folder), *map(str, options)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> StoreSCP:
        """Start and wait until it listens."""
        with self.log_file.open("ab") as log:
            command = [*self._command, str(self.port)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._env, start_new_session=True)
        wait_until(lambda: listening(self.port), 10, "storescp listens", self.log_file.read_text)
        return self

    def files(self) -> list[Path]:
        """The files written so far (half-written ones too)."""
        return sorted(self.folder.iterdir())

    def wait_files(self, count: int, deadline: float = 30) -> list[Path]:
        """Wait for ``count`` files."""
        wait_until(lambda: len(self.files()) >= count, deadline, f"{count} files in {self.folder.name}", self.files)
        return self.files()

    def stop(self) -> None:
        """End it and its children, which ignore nobody's signals but run in its process group."""
        if self._process is not None:
            _end_group(self._process)

    def __enter__(self) -> StoreSCP:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait(10)


KEEP_BYTES = ("+B", "+xa")
"""storescp: accept all transfer syntaxes, write data sets as they come."""


class Orthanc:
    """An Orthanc with its storage in ``folder``. ``modalities``: {name: (AE title, port)} that it can send to.
    ``more``: of its settings."""

    def __init__(self, folder: Path, modalities: Mapping[str, tuple[str, int]] | None = None, **more: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.http_port = free_port(), free_port()
        self.log_file = folder / "orthanc.log"
        self._config = folder / "orthanc.json"
        self._config.write_text(json.dumps(self._settings(modalities or {}) | more))
        self._process: subprocess.Popen[bytes] | None = None

    def _settings(self, modalities: Mapping[str, tuple[str, int]]) -> dict[str, object]:
        return {
            "Name": "test",
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "HttpPort": self.http_port,
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "Plugins": [],
            "DicomModalities": {name: [title, HOST, port] for name, (title, port) in modalities.items()},
        }

    def start(self) -> Orthanc:
        """Start and wait until both its ports answer."""
        with self.log_file.open("ab") as log:
            command = [program("Orthanc"), str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT, start_new_session=True)
        ready = "Orthanc listens"
        wait_until(lambda: listening(self.port) and listening(self.http_port), 30, ready, self.log_file.read_text)
        return self

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            _end_group(self._process)

    def request(self, method: str, path: str, body: bytes | None = None, timeout: float = 60) -> bytes:
        """One HTTP request to its REST API; the answer's body.

        Raises:
            urllib.error.HTTPError: it said no.
        """
        # An opener of our own: proxies of the environment are not for the loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"http://{HOST}:{self.http_port}{path}", data=body, method=method)
        with opener.open(request, timeout=timeout) as answer:
            return bytes(answer.read())

    def upload(self, path: Path) -> str:
        """Give it a file over HTTP; Orthanc's name of the instance."""
        return str(json.loads(self.request("POST", "/instances", path.read_bytes()))["ID"])

    def store(self, modality: str, instances: Sequence[str]) -> None:
        """Let it send instances (its names) to one of its modalities; returns when all are acknowledged."""
        self.request("POST", f"/modalities/{modality}/store", json.dumps(list(instances)).encode())

    def instances(self) -> list[str]:
        """Its names of everything it has."""
        return [str(name) for name in json.loads(self.request("GET", "/instances"))]

    def file(self, instance: str) -> bytes:
        """One instance as a Part 10 file."""
        return self.request("GET", f"/instances/{instance}/file")

    def wait_instances(self, count: int, deadline: float = 30) -> list[str]:
        """Wait until it has ``count`` instances."""
        wait_until(lambda: len(self.instances()) >= count, deadline, f"{count} instances in Orthanc", self.instances)
        return self.instances()

    def __enter__(self) -> Orthanc:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def pynetdicom_send(caller: Caller, files: Iterable[Path]) -> list[int]:
    """Send files with a plain pynetdicom SCU; the status of each."""
    data_sets = [read(path) for path in files]
    ae = AE(ae_title=caller.calling)
    for data_set in data_sets:
        ae.add_requested_context(data_set.SOPClassUID, data_set.file_meta.TransferSyntaxUID)
    association = ae.associate(HOST, caller.port, ae_title=caller.called)
    assert association.is_established, "pynetdicom got no association"
    statuses = [int(association.send_c_store(data_set).Status) for data_set in data_sets]
    association.release()
    return statuses


def read(path: Path) -> pydicom.FileDataset:
    """A file as pydicom decodes it, with all values read and without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(path)
        data_set.walk(lambda _, __: None)
        return data_set


def read_bytes(content: bytes) -> pydicom.FileDataset:
    """``read`` for a file's content."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(content)
        file.flush()
        return read(Path(file.name))


def same_content(one: Dataset, other: Dataset) -> str:
    """Compare decoded content, group lengths and trailing padding aside; an empty text, or what differs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = _content(one), _content(other)
        differing = [str(tag) for tag in sorted({*ours, *theirs}) if ours.get(tag) != theirs.get(tag)]
    return ", ".join(differing)


def _content(data_set: Dataset) -> dict[Any, Any]:
    little = data_set.original_encoding[1] is not False
    meant = (element for element in data_set if element.tag.element != 0 and element.tag != TRAILING_PADDING)
    return {element.tag: element.value if little else _in_little_endian(element) for element in meant}


def _in_little_endian(element: DataElement) -> Any:
    """The value; 16-bit words, which pydicom leaves as they are in the file, in the order of their bytes elsewhere."""
    if element.VR != "OW":
        return element.value
    swapped = bytearray(element.value)
    swapped[::2], swapped[1::2] = swapped[1::2], swapped[::2]
    return bytes(swapped)

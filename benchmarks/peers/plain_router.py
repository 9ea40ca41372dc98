"""A router as one writes it with pynetdicom: store each image, sync it, let threads forward it, remove it.

``plain_router.py AE_TITLE PORT FOLDER WORKERS NAME:PORT...``. What waits is lost with the process. It listens with a
backlog that does for many callers at once, which pynetdicom's own (5) does not.
"""

from __future__ import annotations

import os
import queue
import socketserver
import sys
import threading
import time
import uuid
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

TRIES = 20


class Forwarder:
    """One destination: a queue of files and the threads that send them."""

    def __init__(self, title: str, name: str, port: int, router: Router) -> None:
        self.queue: queue.Queue[Path] = queue.Queue()
        self._title = title
        self._name = name
        self._port = port
        self._router = router

    def work(self) -> None:
        """A thread: keep one association open, send file after file."""
        association: Association | None = None
        pair: tuple[str, str] | None = None
        while True:
            path = self.queue.get()
            data_set = dcmread(path)
            wanted = (str(data_set.SOPClassUID), str(data_set.file_meta.TransferSyntaxUID))
            for _ in range(TRIES):
                if association is None or not association.is_established or pair != wanted:
                    association, pair = self._associate(association, wanted), wanted
                if association.is_established and self._sent(association, data_set):
                    break
                time.sleep(0.5)
            self._router.forwarded(path)

    def _associate(self, old: Association | None, pair: tuple[str, str]) -> Association:
        if old is not None and old.is_established:
            old.release()
        ae = AE(ae_title=self._title)
        ae.maximum_pdu_size = 0
        ae.add_requested_context(*pair)
        return ae.associate("127.0.0.1", self._port, ae_title=self._name, max_pdu=0)

    def _sent(self, association: Association, data_set: Dataset) -> bool:
        status = association.send_c_store(data_set)
        return bool(status) and status.Status == 0


class Router:
    """Stores what comes and counts who still needs it."""

    def __init__(self, folder: Path) -> None:
        self.forwarders: list[Forwarder] = []
        self._folder = folder
        self._owed: dict[Path, int] = {}
        self._lock = threading.Lock()

    def stored(self, event: evt.Event) -> int:
        """EVT_C_STORE."""
        data_set = event.dataset
        data_set.file_meta = event.file_meta
        path = self._folder / f"{uuid.uuid4().hex}.dcm"
        with path.open("wb") as file:
            data_set.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        self._owed[path] = len(self.forwarders)
        for forwarder in self.forwarders:
            forwarder.queue.put(path)
        return 0x0000

    def forwarded(self, path: Path) -> None:
        """One destination is done with the file."""
        with self._lock:
            self._owed[path] -= 1
            if self._owed[path]:
                return
            del self._owed[path]
        path.unlink()


def main(title: str, port: str, folder: str, workers: str, *destinations: str) -> None:
    """Run until killed."""
    router = Router(Path(folder))
    for text in destinations:
        name, _, number = text.partition(":")
        forwarder = Forwarder(title, name, int(number), router)
        router.forwarders.append(forwarder)
        for _ in range(int(workers)):
            threading.Thread(target=forwarder.work, daemon=True).start()
    socketserver.TCPServer.request_queue_size = 512
    ae = AE(ae_title=title)
    ae.maximum_associations, ae.maximum_pdu_size = 1000, 0
    ae.add_supported_context(Verification)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    ae.start_server(("127.0.0.1", int(port)), evt_handlers=[(evt.EVT_C_STORE, router.stored)])


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Scripted DICOM peers on loopback: a PACS that answers as told, a scanner that sends."""

import threading
from collections.abc import Collection, Iterable, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.presentation import DEFAULT_TRANSFER_SYNTAXES
from pynetdicom.sop_class import CTImageStorage, Verification

from dicom_node.answers import keep_answers

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
DUPLICATE = 0x0111
ELEMENTS_DISCARDED = 0xB006

COMPRESSED = (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless)


class Fault(Enum):
    """What a peer can do instead of answering."""

    ABORT = "abort"
    SILENCE = "silence"


class ScriptedPacs:
    """A storage SCP that plays a script: one answer for each C-STORE, success when it is over.

    ``received`` maps SOP Instance UIDs to the data sets that were answered with success or a
    warning; ``attempts`` lists the SOP Instance UIDs of all requests, ``associations`` counts and
    ``proposed`` lists SOP class and transfer syntaxes of each presentation context asked for.
    Objects of the ``refused`` SOP classes are negotiated and then not understood.
    """

    def __init__(
        self,
        script: Iterable[int | Fault] = (),
        *,
        port: int = 0,
        ae_title: str = "PACS",
        sop_classes: Sequence[str] | None = None,
        transfer_syntaxes: Sequence[str] = tuple(DEFAULT_TRANSFER_SYNTAXES),
        refused: Collection[str] = (),
    ) -> None:
        self.script = list(script)
        self.refused = refused
        self.ae_title = ae_title
        self.received: dict[str, Dataset] = {}
        self.attempts: list[str] = []
        self.associations = 0
        self.proposed: list[tuple[str, tuple[str, ...]]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._ae = AE(ae_title=ae_title)
        self._ae.require_called_aet = True
        self._ae.add_supported_context(Verification)
        storage = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
        for sop_class in sop_classes if sop_classes is not None else storage:
            self._ae.add_supported_context(sop_class, list(transfer_syntaxes))
        handlers = [(evt.EVT_ACCEPTED, self._on_accepted), (evt.EVT_C_STORE, self._on_c_store)]
        server = self._ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        assert server is not None
        self._server = server
        self.port: int = server.socket.getsockname()[1]

    def stop(self) -> None:
        """Break off what is open and free the port."""
        self._stopping.set()
        self._ae.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _on_accepted(self, event: Event) -> None:
        self.associations += 1
        self.proposed += [
            (str(context.abstract_syntax), tuple(context.transfer_syntax))
            for context in event.assoc.requestor.requested_contexts
        ]

    def _on_c_store(self, event: Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        uid = str(dataset.SOPInstanceUID)
        with self._lock:
            self.attempts.append(uid)
            answer = self.script.pop(0) if self.script else SUCCESS
        if dataset.SOPClassUID in self.refused:
            answer = CANNOT_UNDERSTAND
        if answer is Fault.ABORT:
            event.assoc.abort()
            return OUT_OF_RESOURCES
        if answer is Fault.SILENCE:
            self._stopping.wait()
            return OUT_OF_RESOURCES
        assert isinstance(answer, int)
        if answer in (SUCCESS, DUPLICATE) or answer >> 12 == 0xB:
            with self._lock:
                self.received[uid] = dataset
        return answer


class Scanner:
    """A storage SCU that is not ours, with DICOM's own words for what it was answered."""

    def __init__(self, port: int, *, ae_title: str = "SCANNER", called: str = "PSOAS") -> None:
        self.port = port
        self.ae_title = ae_title
        self.called = called

    def send(
        self, paths: Iterable[Path], *, release: bool = True, after: int | None = None
    ) -> list[int | None]:
        """Store files over one association; return the statuses, ``None`` without an answer.

        Parameters
        ----------
        paths : iterable of Path
        release : bool
            ``False`` aborts the association at the end.
        after : int or None
            Abort after so many files.
        """
        datasets = [dcmread(path) for path in paths]
        ae = AE(ae_title=self.ae_title)
        for sop_class in dict.fromkeys(str(dataset.SOPClassUID) for dataset in datasets):
            of_class = [d for d in datasets if str(d.SOPClassUID) == sop_class]
            for syntax in dict.fromkeys(d.file_meta.TransferSyntaxUID for d in of_class):
                ae.add_requested_context(sop_class, syntax)
        association = ae.associate("127.0.0.1", self.port, ae_title=self.called)
        assert association.is_established, "the association was not accepted"
        keep_answers(association)
        statuses = [
            getattr(association.send_c_store(dataset), "Status", None)
            for dataset in datasets[:after]
        ]
        if release and after is None:
            association.release()
        else:
            association.abort()
        return statuses

    def echo(self) -> int | None:
        """Verify the peer; ``None`` when the association is refused."""
        ae = AE(ae_title=self.ae_title)
        ae.add_requested_context(Verification)
        association = ae.associate("127.0.0.1", self.port, ae_title=self.called)
        if not association.is_established:
            return None
        status = getattr(association.send_c_echo(), "Status", None)
        association.release()
        return status


def ct_contexts() -> list[str]:
    """SOP classes of a peer that stores CT only."""
    return [str(CTImageStorage)]

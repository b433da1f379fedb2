"""A PACS on loopback that commits to what it is asked about, or does not, as told."""

import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance


class Way(Enum):
    """How a report reaches who asked."""

    SAME_ASSOCIATION = "same association"
    NEW_ASSOCIATION = "new association"
    WITHOUT_ROLES = "new association without role selection"
    NEVER = "never"


@dataclass
class CommittingPacs:
    """A provider of storage commitment.

    ``asked`` keeps the data sets of all requests, ``answers`` the statuses of our responses to
    its reports; ``fails`` names the SOP instances that it does not commit to.
    """

    way: Way
    report_to_port: int = 0
    ae_title: str = "PACS"
    status: int = 0x0000
    fails: dict[str, int] = field(default_factory=dict)
    asked: list[Dataset] = field(default_factory=list)
    answers: list[int | None] = field(default_factory=list)
    reported: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._ae = AE(ae_title=self.ae_title)
        self._ae.add_supported_context(StorageCommitmentPushModel)
        server = self._ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, self._on_action)]
        )
        assert server is not None
        self.port: int = server.socket.getsockname()[1]
        self._threads: list[threading.Thread] = []
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()
        self._ae.shutdown()

    def _on_action(self, event: Event) -> tuple[int, None]:
        request = event.action_information
        self.asked.append(request)
        if self.status == 0x0000 and self.way is not Way.NEVER:
            report = self._report_same if self.way is Way.SAME_ASSOCIATION else self._report_new
            thread = threading.Thread(target=report, args=(event, request))
            self._threads.append(thread)
            thread.start()
        return self.status, None

    def _report_same(self, event: Event, request: Dataset) -> None:
        # The answer to the request goes out first; its handler returns at once.
        while not event.assoc._reactor_checkpoint.is_set() or event.assoc._is_paused:
            self.reported.wait(0.01)
        self.send_report(event.assoc, self.report_on(request))

    def _report_new(self, _event: Event, request: Dataset) -> None:
        ae = AE(ae_title=self.ae_title)
        ae.add_requested_context(StorageCommitmentPushModel)
        roles = [] if self.way is Way.WITHOUT_ROLES else [self.provider_role()]
        association = ae.associate(
            "127.0.0.1", self.report_to_port, ae_title="PSOAS", ext_neg=roles
        )
        if association.is_established:
            # Without roles our own toolkit takes itself for the user and refuses to report.
            for context in association.accepted_contexts:
                context._as_scp = True
            self.send_report(association, self.report_on(request))
            association.release()
        self.reported.set()

    def send_report(self, association: object, information: Dataset) -> None:
        """Send one N-EVENT-REPORT and keep the status of its answer."""
        event_type = 2 if "FailedSOPSequence" in information else 1
        response, _ = association.send_n_event_report(  # type: ignore[attr-defined]
            information, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        self.answers.append(getattr(response, "Status", None))
        self.reported.set()

    def report_on(self, request: Dataset) -> Dataset:
        """What a report on a request says (PS3.4 table J.3-2)."""
        information = Dataset()
        information.TransactionUID = request.TransactionUID
        committed, failed = [], []
        for item in request.ReferencedSOPSequence:
            reason = self.fails.get(item.ReferencedSOPInstanceUID)
            if reason is None:
                committed.append(item)
            else:
                item.FailureReason = reason
                failed.append(item)
        if committed:
            information.ReferencedSOPSequence = committed
        if failed:
            information.FailedSOPSequence = failed
        return information

    @staticmethod
    def provider_role() -> object:
        return build_role(StorageCommitmentPushModel, scp_role=True)

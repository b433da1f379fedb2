"""Take commitment reports that peers bring on associations of their own.

References
----------
DICOM PS3.4 J.3.3; PS3.7 D.3.3.4 (role selection: here the peer that calls is the provider).
"""

from collections.abc import Callable
from datetime import datetime
from typing import cast

import structlog
from pynetdicom import AE, evt
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StorageCommitmentPushModel,
    Verification,
)

from dicom_node.commitment import PROCESSING_FAILURE, answer_report
from dicom_node.config import NodeSettings
from dicom_node.custody import Custody
from dicom_node.errors import LedgerError
from dicom_node.records import CommitmentReport

logger = structlog.get_logger(__name__)

Clock = Callable[[], datetime]


class ReportDesk:
    """The part of the listener that waits for commitment reports.

    Parameters
    ----------
    settings : NodeSettings
    custody : Custody
    clock : Clock
    """

    def __init__(self, settings: NodeSettings, custody: Custody, clock: Clock) -> None:
        self._settings = settings
        self._custody = custody
        self._clock = clock

    def prepare(self, ae: AE) -> None:
        """Let the entity accept peers that call as providers of storage commitment."""
        if self._settings.reporting_ae_titles:
            # The caller may be provider; that we are is what it may not ask for.
            ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)

    def handlers(self) -> list[EventHandlerType]:
        """Return what pynetdicom is to call, after the handlers of the receiver."""
        return [
            (evt.EVT_REQUESTED, self.on_requested),
            (evt.EVT_N_EVENT_REPORT, self.on_report),
        ]

    def on_requested(self, event: Event) -> None:
        """Offer each caller what it may have: reports are for destinations that we asked.

        A scanner that asks *us* to commit finds the context rejected: it must keep its images.
        """
        request = cast("A_ASSOCIATE", event.assoc.requestor.primitive)
        calling = str(request.calling_ae_title).strip()
        reports = calling in self._settings.reporting_ae_titles
        stores = calling in self._settings.storing_ae_titles or not self._settings.sources
        acceptor = event.assoc.acceptor
        acceptor.supported_contexts = [
            context
            for context in acceptor.supported_contexts
            if _is_offered(context, reports=reports, stores=stores)
        ]

    def on_report(self, event: Event) -> tuple[int, None]:
        """Answer an N-EVENT-REPORT request with a status of PS3.7 10.1.1.1.8."""
        return answer_report(event, self.record), None

    def record(self, report: CommitmentReport) -> int:
        """Record a report; success means that it is on disk."""
        now = self._clock()
        try:
            status = self._custody.record_report(report, now)
        except LedgerError as error:
            logger.warning("commitment report not recorded", code=error.code, error=str(error))
            return PROCESSING_FAILURE
        logger.info(
            "commitment reported",
            status=f"{status:04X}",
            committed=len(report.committed),
            failed=len(report.failed),
        )
        return status


def _is_offered(context: PresentationContext, *, reports: bool, stores: bool) -> bool:
    if context.abstract_syntax == StorageCommitmentPushModel:
        return reports
    return stores or context.abstract_syntax == Verification

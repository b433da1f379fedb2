"""Hold a series back until a PACS was asked for earlier results, though not for ever.

It knows nothing of reports: what reads them loads pydicom's dictionaries of concepts, 115 MiB that
the listening process has no use for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from dicom_node.config import NodeSettings
from dicom_node.ledger import Ledger
from dicom_node.patience import is_over
from dicom_node.records import PriorSearch, SeriesRecord


@dataclass(frozen=True, slots=True)
class PriorDesk:
    """Holds a series back until the PACS has been heard, or was not heard in time.

    Parameters
    ----------
    ledger : Ledger
    settings : NodeSettings
    ask : callable
        Sends the task that asks, for (Series Instance UID, revision).
    """

    ledger: Ledger
    settings: NodeSettings
    ask: Callable[[str, int], None]

    def is_settled(self, record: SeriesRecord, now: datetime) -> bool:
        """Whether a series may go to a worker.

        Raises
        ------
        BrokerError
            The question could not be sent; it is asked again.
        """
        priors = self.settings.priors
        if priors is None:
            return True
        uid, revision = record.series_instance_uid, record.revision

        def note(settled: bool, due_at: datetime) -> None:
            said = f"was not heard in {priors.patience_s:g} s"
            sentence = (
                f"{priors.destination} {said if settled else 'was asked for earlier results'}"
            )
            self.ledger.prior_searches.put(PriorSearch(uid, revision, settled, sentence, due_at))

        noted = self.ledger.prior_searches.of(uid, revision)
        return is_over(noted, now, priors.patience_s, partial(self.ask, uid, revision), note)

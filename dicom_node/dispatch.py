"""Send work to the queues, by name: the listener never loads what the worker needs."""

from typing import Protocol

from celery import Celery
from kombu.exceptions import OperationalError

from dicom_node.celery_app import ANALYZE_SERIES, DELIVER, PROVE, SEARCH_PRIORS, SHADOW_SERIES
from dicom_node.errors import BrokerError


class Dispatcher(Protocol):
    """What the listener asks for; raises ``BrokerError`` when the broker is away."""

    def send_analysis(self, series_instance_uid: str, revision: int, order: int) -> None:
        """Ask a worker to measure one revision of a series; ``order`` is the number of the task."""

    def send_delivery(self, series_instance_uid: str, destination: str) -> None:
        """Ask for what is due of a series to be stored at a destination."""

    def send_proof(self, series_instance_uid: str, revision: int) -> None:
        """Ask for the PACS of a series to be asked whether it is complete."""

    def send_search(self, series_instance_uid: str, revision: int) -> None:
        """Ask for a PACS to be asked for earlier results of the patient."""

    def send_shadow(self, series_instance_uid: str, revision: int, model: str) -> None:
        """Ask a worker to measure one revision of a series silently, by another model."""


class CeleryDispatcher:
    """Sends through Celery, without waiting for a broker that is away.

    Parameters
    ----------
    app : Celery
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send_analysis(self, series_instance_uid: str, revision: int, order: int) -> None:
        """Ask a worker to measure one revision of a series; ``order`` is the number of the task."""
        self._send(ANALYZE_SERIES, series_instance_uid, revision, order)

    def send_delivery(self, series_instance_uid: str, destination: str) -> None:
        """Ask for what is due of a series to be stored at a destination."""
        self._send(DELIVER, series_instance_uid, destination)

    def send_proof(self, series_instance_uid: str, revision: int) -> None:
        """Ask for the PACS of a series to be asked whether it is complete."""
        self._send(PROVE, series_instance_uid, revision)

    def send_search(self, series_instance_uid: str, revision: int) -> None:
        """Ask for a PACS to be asked for earlier results of the patient."""
        self._send(SEARCH_PRIORS, series_instance_uid, revision)

    def send_shadow(self, series_instance_uid: str, revision: int, model: str) -> None:
        """Ask a worker to measure one revision of a series silently, by another model."""
        self._send(SHADOW_SERIES, series_instance_uid, revision, model)

    def _send(self, name: str, *arguments: str | int) -> None:
        try:
            self._app.send_task(name, arguments, retry=False)
        except (OperationalError, OSError) as error:
            raise BrokerError(f"the broker does not take {name}: {error}") from None

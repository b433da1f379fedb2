"""Let Prometheus see the host of a worker, and whoever starts it again see whether it works."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from dicom_node.broker import is_answering
from dicom_node.celery_app import GPU_QUEUE
from dicom_node.config import NodeSettings

_ANSWER_TIMEOUT_S: Final = 3.0


@contextmanager
def exposed(app: Celery, settings: NodeSettings, queue: str, name: str) -> Iterator[None]:
    """Answer for one worker while it runs, when the settings name a port for its queue.

    Parameters
    ----------
    app : Celery
    settings : NodeSettings
    queue : str
    name : str
        Of the worker at the broker.

    Raises
    ------
    SettingsError
        The address cannot be listened on.
    """
    here = settings.metrics
    port = here.worker_port if queue == GPU_QUEUE else here.node_worker_port
    if port is None:
        yield
        return
    from dicom_node.exposition import broker_check, exposing
    from dicom_node.host_metrics import WorkerCollector

    checks = {"broker": broker_check(settings)}
    collector = WorkerCollector(settings.storage.folder)

    def health() -> str:
        return complaint(app, settings, name)

    with exposing((here.host, port), collector, health, checks):
        yield


def complaint(app: Celery, settings: NodeSettings, name: str) -> str:
    """Say why a worker should be started again; empty when it should not.

    A worker that hears messages answers a ping, also while a child of it measures. When the broker
    is away nobody hears anything, and a new worker would be no better.

    Parameters
    ----------
    app : Celery
    settings : NodeSettings
    name : str
        Of the worker at the broker.
    """
    if not is_answering(settings):
        return ""
    try:
        answers = app.control.ping([name], timeout=_ANSWER_TIMEOUT_S)
    except (redis.RedisError, OperationalError, OSError):
        return ""
    return "" if answers else f"{name} does not answer"

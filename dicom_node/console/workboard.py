"""See which workers there are now, and how long the queues of the broker are."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from dicom_node.celery_app import create_app
from dicom_node.config import NodeSettings
from dicom_node.queues import queue_lengths

_ANSWER_TIMEOUT_S: Final = 1.0
_FRESH_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that answers.

    Parameters
    ----------
    name : str
    busy_with : tuple of str
        Series Instance UIDs of its tasks.
    """

    name: str
    busy_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """Workers and queues at one moment.

    Parameters
    ----------
    workers : tuple of Worker
    waiting : mapping of str to int
        Messages that no worker has taken, by queue.
    complaint : str
        Why nothing is known; empty otherwise.
    """

    workers: tuple[Worker, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)
    complaint: str = ""


class Workboard:
    """Asks the broker and the workers, at most once in a few seconds however many look.

    Parameters
    ----------
    settings : NodeSettings
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._app = create_app(settings)
        self._lock = threading.Lock()
        self._board = Board()
        self._asked_at = -_FRESH_S

    def board(self) -> Board:
        """Return what is known; it takes up to a second when it has to be asked."""
        with self._lock:
            if time.monotonic() - self._asked_at >= _FRESH_S:
                self._board = _ask(self._app, self._settings)
                self._asked_at = time.monotonic()
            return self._board


def _ask(app: Celery, settings: NodeSettings) -> Board:
    try:
        waiting = queue_lengths(settings)
        inspect: Callable[..., Any] = app.control.inspect
        active: Mapping[str, list[Mapping[str, Any]]] | None = inspect(
            timeout=_ANSWER_TIMEOUT_S
        ).active()
    except (redis.RedisError, OperationalError, OSError, ValueError):
        return Board(complaint="The broker does not answer, so nothing is known of the workers.")
    workers = tuple(
        Worker(name, tuple(str(task["args"][0]) for task in tasks if task.get("args")))
        for name, tasks in sorted((active or {}).items())
    )
    return Board(workers, waiting)

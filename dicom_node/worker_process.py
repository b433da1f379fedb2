"""Run the Celery worker of one queue, or a worker for each queue."""

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from multiprocessing import Event
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

import structlog
from celery import Celery, signals
from celery.platforms import EX_FAILURE

from dicom_node.celery_app import GPU_QUEUE, NODE_QUEUE, create_app
from dicom_node.config import NodeSettings
from dicom_node.hardening import forbid_core_dumps, limit_memory
from dicom_node.logs import configure_logs
from dicom_node.spool import Spool
from dicom_node.tasks import caught, register_analysis, register_records
from dicom_node.worker_health import exposed

if TYPE_CHECKING:
    from dicom_node.ledger import Ledger
    from dicom_node.worker import WorkerContext

logger = structlog.get_logger(__name__)

# A GPU holds one series at a time; a silent PACS must not hold up the news of workers.
_PROCESSES: Final = {GPU_QUEUE: 1, NODE_QUEUE: 4}
_PAUSE_S: Final = 5.0
_STOP_TIMEOUT_S: Final = 30.0


def run_worker(settings: NodeSettings, queue: str) -> bool:
    """Run the worker of one queue until it is told to stop.

    Parameters
    ----------
    settings : NodeSettings
    queue : str
        ``"gpu"`` or ``"node"``.

    Returns
    -------
    bool
        Whether it ended because it was told to; otherwise its processes could not start.
    """
    # What Celery says of superusers is about pickle, which is refused here; what it says of its
    # next version is for us, not for administrators.
    warnings.filterwarnings("ignore", module=r"celery\..*")
    forbid_core_dumps()
    app = create_app(settings)
    prepare: Callable[[Celery, NodeSettings], Callable[[], object]] = (
        _prepare_analysis if queue == GPU_QUEUE else _prepare_records
    )
    resource = prepare(app, settings)
    unusable = Event()

    def configure(**_: object) -> None:
        configure_logs(settings.log)

    def start(**_: object) -> None:
        if queue == GPU_QUEUE:
            limit_memory(settings.worker.memory_limit_mib)
        if caught(resource) is None:
            logger.info("ready to work", queue=queue)
            return
        # Tasks must not be taken by a process that can do none of them.
        unusable.set()
        os.kill(os.getppid(), signal.SIGTERM)

    signals.setup_logging.connect(configure, weak=False)
    signals.worker_process_init.connect(start, weak=False)
    name = f"{queue}-{os.getpid()}@{socket.gethostname()}"
    worker = app.Worker(
        queues=[queue],
        concurrency=_PROCESSES[queue],
        pool="prefork",
        hostname=name,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=not settings.worker.events,
        task_events=settings.worker.events,
    )
    with exposed(app, settings, queue, name):
        worker.start()
    if worker.exitcode == EX_FAILURE and not unusable.is_set():
        start_anew("the broker answered what Celery cannot bear, or something unforeseen happened")
    return not unusable.is_set()


def start_anew(reason: str) -> NoReturn:
    """Replace this process by a new one with the same arguments, after a pause.

    A broker whose disk is full refuses every command, and Celery gives its worker up for that; the
    queue waits until there is room again, and so must the worker.

    Parameters
    ----------
    reason : str
        For the log.
    """
    logger.warning("worker broke off, starting it again", reason=reason, pause_s=_PAUSE_S)
    time.sleep(_PAUSE_S)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves


def run_all_workers(settings_file: Path) -> bool:
    """Run a worker process for each queue until one ends or all are told to stop.

    Parameters
    ----------
    settings_file : Path

    Returns
    -------
    bool
        Whether they ended because they were told to.
    """
    command = [sys.executable, "-m", "dicom_node", "worker", "--config", str(settings_file)]
    workers = [subprocess.Popen([*command, "--queue", queue]) for queue in _PROCESSES]  # noqa: S603

    def stop(_number: int, _frame: FrameType | None) -> None:
        for worker in workers:
            worker.terminate()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # Whichever ends first ends the other one: half a node would look like a whole one.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        stop(0, None)
        return all(worker.wait(_STOP_TIMEOUT_S) == 0 for worker in workers)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _prepare_analysis(app: Celery, settings: NodeSettings) -> "Callable[[], WorkerContext]":
    @cache
    def context() -> "WorkerContext":
        from dicom_node.worker import make_context

        return make_context(settings)

    register_analysis(app, settings, context)
    return context


def _prepare_records(app: Celery, settings: NodeSettings) -> "Callable[[], Ledger]":
    @cache
    def ledger() -> "Ledger":
        from dicom_node.ledger import Ledger

        return Ledger.open(settings.ledger_url)

    register_records(app, settings, ledger, Spool.of(settings.storage))
    return ledger

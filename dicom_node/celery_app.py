"""The Celery application: two queues, messages that survive their worker, nothing but JSON."""

from typing import Final

from celery import Celery
from kombu import Queue

from dicom_node.broker import broker_url
from dicom_node.config import NodeSettings
from dicom_node.series_task import SeriesTask

ANALYZE_SERIES: Final = "psoas.analyze_series"
RECORD_STARTED: Final = "psoas.record_started"
RECORD_OUTCOME: Final = "psoas.record_outcome"
RECORD_LOST: Final = "psoas.record_lost"
DELIVER: Final = "psoas.deliver"
PROVE: Final = "psoas.prove_completeness"
SEARCH_PRIORS: Final = "psoas.search_priors"
SHADOW_SERIES: Final = "psoas.shadow_series"
RECORD_SHADOW: Final = "psoas.record_shadow"

GPU_QUEUE: Final = "gpu"
NODE_QUEUE: Final = "node"

# Redis serves small numbers first: news of the worker must not wait behind a PACS that is silent.
_RECORD_PRIORITY = 0
_DELIVER_PRIORITY = 9
_SHADOW_PRIORITY = 9

_HARD_LIMIT_MARGIN_S = 5.0
_NODE_LIMIT_S = 600.0
_LEASE_MARGIN_S = 10.0
_START_LIMIT_S = 300.0  # a first start compiles torch's modules on a slow disk


def work_lease_s(settings: NodeSettings) -> float:
    """How long after its start work without news counts as lost: beyond its hard time limit."""
    return settings.worker.time_limit_s + _HARD_LIMIT_MARGIN_S + _LEASE_MARGIN_S


def create_app(settings: NodeSettings) -> Celery:
    """Make the application of one node.

    Messages are acknowledged when their task is over; one whose worker died is delivered again.
    Tasks are sent by name and carry UIDs only.

    Parameters
    ----------
    settings : NodeSettings

    Returns
    -------
    Celery
        Without any task; ``tasks.register`` adds them in a worker.
    """
    soft_s = settings.worker.time_limit_s
    limits = {"soft_time_limit": soft_s, "time_limit": soft_s + _HARD_LIMIT_MARGIN_S}
    app: Celery = Celery("psoas", set_as_current=False, task_cls=SeriesTask)
    app.conf.update(
        broker_url=broker_url(settings),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Beyond the longest task, or a message would come back while its worker is well.
        broker_transport_options={
            "visibility_timeout": max(soft_s + _HARD_LIMIT_MARGIN_S, _NODE_LIMIT_S) * 1.5,
            # Whoever sends must not wait for a broker that is away; workers wait by other rules.
            "max_retries": 0,
            "socket_timeout": 30.0,
            "socket_connect_timeout": 5.0,
            **_sentinel_options(settings),
        },
        task_queues=[Queue(GPU_QUEUE), Queue(NODE_QUEUE)],
        task_create_missing_queues=False,
        task_default_queue=NODE_QUEUE,
        task_routes={
            ANALYZE_SERIES: {"queue": GPU_QUEUE},
            SHADOW_SERIES: {"queue": GPU_QUEUE, "priority": _SHADOW_PRIORITY},
            RECORD_SHADOW: {"queue": NODE_QUEUE, "priority": _DELIVER_PRIORITY},
            RECORD_STARTED: {"queue": NODE_QUEUE, "priority": _RECORD_PRIORITY},
            RECORD_OUTCOME: {"queue": NODE_QUEUE, "priority": _RECORD_PRIORITY},
            RECORD_LOST: {"queue": NODE_QUEUE, "priority": _RECORD_PRIORITY},
            DELIVER: {"queue": NODE_QUEUE, "priority": _DELIVER_PRIORITY},
            PROVE: {"queue": NODE_QUEUE, "priority": _DELIVER_PRIORITY},
            SEARCH_PRIORS: {"queue": NODE_QUEUE, "priority": _DELIVER_PRIORITY},
        },
        task_annotations=dict.fromkeys((ANALYZE_SERIES, SHADOW_SERIES), limits),
        task_time_limit=_NODE_LIMIT_S,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=_START_LIMIT_S,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        enable_utc=True,
    )
    return app


def _sentinel_options(settings: NodeSettings) -> dict[str, object]:
    master = settings.broker.sentinel_master
    return {} if master is None else {"master_name": master}

"""Count what waits at the broker."""

from typing import Final, cast

from dicom_node.broker import client_of
from dicom_node.celery_app import GPU_QUEUE, NODE_QUEUE
from dicom_node.config import NodeSettings

# Kombu keeps a list for each step of priority: the plain name, then name, separator and number.
_PRIORITIES: Final = ("", "\x06\x163", "\x06\x166", "\x06\x169")
_TIMEOUT_S: Final = 2.0


def queue_lengths(settings: NodeSettings) -> dict[str, int]:
    """Count the messages that no worker has taken, by queue.

    Raises
    ------
    redis.RedisError, OSError
        The broker is away.
    """
    with client_of(settings, _TIMEOUT_S) as client:
        return {
            queue: sum(cast("int", client.llen(queue + step)) for step in _PRIORITIES)
            for queue in (GPU_QUEUE, NODE_QUEUE)
        }

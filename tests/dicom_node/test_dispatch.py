import json
import time
from pathlib import Path

import pytest
import redis

from dicom_node.broker import EmbeddedBroker, broker_folder, socket_path
from dicom_node.celery_app import create_app
from dicom_node.dispatch import CeleryDispatcher
from dicom_node.errors import BrokerError
from tests.dicom_node.factories import node_settings

pytestmark = [pytest.mark.redis, pytest.mark.network]


def test_work_goes_to_the_queue_of_its_kind(tmp_path: Path) -> None:
    settings = node_settings(tmp_path)
    folder = broker_folder(settings)
    with EmbeddedBroker(folder):
        app = create_app(settings)
        dispatcher = CeleryDispatcher(app)
        dispatcher.send_analysis("1.2.3", 4, 7)
        dispatcher.send_delivery("1.2.3", "pacs")
        app.close()
        with redis.Redis(unix_socket_path=str(socket_path(folder))) as connection:
            (analysis,) = connection.lrange("gpu", 0, -1)
            # Deliveries have the lowest priority of their queue.
            (delivery,) = connection.lrange("node\x06\x169", 0, -1)
    assert json.loads(analysis)["headers"]["task"] == "psoas.analyze_series"
    assert json.loads(analysis)["headers"]["argsrepr"] == "('1.2.3', 4, 7)"
    assert json.loads(delivery)["headers"]["task"] == "psoas.deliver"
    assert json.loads(delivery)["headers"]["argsrepr"] == "('1.2.3', 'pacs')"


def test_broker_that_is_away_is_noticed_at_once(tmp_path: Path) -> None:
    dispatcher = CeleryDispatcher(create_app(node_settings(tmp_path)))
    started = time.monotonic()
    with pytest.raises(BrokerError, match=r"does not take psoas\.analyze_series"):
        dispatcher.send_analysis("1.2.3", 1, 1)
    assert time.monotonic() - started < 5.0

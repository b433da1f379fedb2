from pathlib import Path

import pytest

from dicom_node.celery_app import ANALYZE_SERIES, create_app, work_lease_s
from tests.dicom_node.factories import node_settings


@pytest.mark.parametrize("time_limit_s", [5.0, 600.0, 7200.0])
def test_work_is_lost_after_its_limits_and_before_it_comes_back(
    time_limit_s: float, tmp_path: Path
) -> None:
    settings = node_settings(tmp_path, worker={"time_limit_s": time_limit_s})
    conf = create_app(settings).conf
    limits = conf.task_annotations[ANALYZE_SERIES]
    assert limits["soft_time_limit"] == time_limit_s < limits["time_limit"]
    assert limits["time_limit"] < work_lease_s(settings)
    assert conf.broker_transport_options["visibility_timeout"] > limits["time_limit"]


def test_message_is_kept_until_its_task_is_over(tmp_path: Path) -> None:
    conf = create_app(node_settings(tmp_path)).conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1


def test_nothing_but_json_is_read(tmp_path: Path) -> None:
    assert create_app(node_settings(tmp_path)).conf.accept_content == ["json"]

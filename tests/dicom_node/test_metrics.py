"""What Prometheus is told, and that the rules and the dashboard of deploy/ load and name it."""

import json
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from dicom_node.config import CompletionSettings
from dicom_node.exposition import exposing
from dicom_node.host_metrics import gpu_metrics
from dicom_node.ledger import Ledger
from dicom_node.metrics import NodeCollector
from dicom_node.monitoring import monitoring
from dicom_node.records import Reason, ResultFile, SeriesEvent
from tests.dicom_node.factories import ManualClock, instance, node_settings

UID = "1.2.3"
SEG = ResultFile("2.25.1", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.2.1", Path("seg.dcm"))


class Bench:
    """A ledger that things happen in, and what a scrape tells."""

    def __init__(self, folder: Path) -> None:
        self.settings = node_settings(folder)
        self.ledger = Ledger.open(self.settings.ledger_url)
        self.clock = ManualClock()
        self.collector = NodeCollector(self.settings, self.ledger, self.clock)
        self.registry = CollectorRegistry()
        self.registry.register(self.collector)

    def close(self) -> None:
        self.ledger.close()

    def receive(self, *numbers: int, uid: str = UID) -> None:
        for number in numbers:
            one = instance(number, series_instance_uid=uid, received_at=self.clock())
            self.ledger.record_instance(one, CompletionSettings())

    def advance(self, *events: SeriesEvent, uid: str = UID, reason: Reason | None = None) -> None:
        for event in events:
            self.ledger.advance(uid, event, self.clock(), reason=reason)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path)) as made:
        yield made


SENT = (SeriesEvent.QUIET_PERIOD_OVER, SeriesEvent.TASK_SENT)


def test_series_are_counted_and_the_oldest_has_its_age(bench: Bench) -> None:
    bench.receive(1)
    bench.receive(2, uid="1.2.4")
    bench.advance(*SENT)
    bench.clock.forward(90)
    assert bench.value("psoas_series", state="queued") == 1
    assert bench.value("psoas_series", state="failed") == 0
    assert bench.value("psoas_oldest_series_age_seconds", state="queued") == 90
    assert bench.value("psoas_oldest_series_age_seconds", state="complete") == 0


def test_images_are_counted_by_source_and_duplicates_are_not(bench: Bench) -> None:
    bench.receive(1, 2)
    assert bench.value("psoas_images_total", source="SCANNER") == 2
    bench.receive(2, 3)
    assert bench.value("psoas_images_total", source="SCANNER") == 3
    bench.clock.forward(7200)
    assert bench.value("psoas_images_total", source="SCANNER") == 3
    bench.clock.forward(1)
    bench.receive(4)
    assert bench.value("psoas_images_total", source="SCANNER") == 4


def test_failures_are_counted_by_code(bench: Bench) -> None:
    bench.receive(1)
    bench.advance(*SENT)
    bench.advance(SeriesEvent.WORK_FAILED, reason=Reason("L3_UNCERTAIN", "no"))
    for _ in range(2):  # a second scrape counts nothing twice
        labels = {"event": "work_failed", "code": "L3_UNCERTAIN"}
        assert bench.value("psoas_series_events_total", **labels) == 1


def test_what_happened_before_the_start_is_not_counted(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    first.receive(1, 2)
    first.advance(*SENT)
    first.close()
    with closing(Bench(tmp_path)) as second:
        second.receive(3)
        assert second.value("psoas_images_total", source="SCANNER") == 1
        assert second.value("psoas_series_events_total", event="task_sent", code="") is None


def test_the_way_from_the_last_image_to_the_pacs_is_timed(bench: Bench) -> None:
    bench.receive(1)
    bench.advance(*SENT, SeriesEvent.MEASURED, SeriesEvent.DELIVERY_STARTED)
    bench.clock.forward(12)
    bench.advance(SeriesEvent.ALL_DELIVERED)
    name = "psoas_last_image_to_pacs_seconds"
    assert bench.value(f"{name}_bucket", le="10") == 0
    assert bench.value(f"{name}_bucket", le="15") == 1
    assert bench.value(f"{name}_bucket", le="+Inf") == 1
    assert bench.value(f"{name}_count") == 1
    assert bench.value(f"{name}_sum") == 12


def test_results_that_wait_are_counted_by_destination(bench: Bench) -> None:
    bench.receive(1)
    bench.advance(*SENT, SeriesEvent.MEASURED)
    bench.ledger.deliveries.queue(UID, 1, [SEG], ["pacs"], bench.clock())
    bench.clock.forward(60)
    assert bench.value("psoas_deliveries", destination="pacs", state="queued") == 1
    assert bench.value("psoas_oldest_delivery_age_seconds", destination="pacs") == 60


def test_a_broker_and_a_ledger_that_are_away_are_told(bench: Bench) -> None:
    assert bench.value("psoas_broker_up") == 0
    assert bench.value("psoas_ledger_up") == 1
    bench.ledger._database.write(
        lambda connection: connection.exec_driver_sql("ALTER TABLE series RENAME TO elsewhere")
    )
    assert bench.value("psoas_ledger_up") == 0
    assert bench.value("psoas_spool_free_bytes") is not None


def test_a_gpu_is_told_as_its_driver_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(gpu_metrics()) == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, 35, 2048, 16384, 61'\n")
    program.chmod(0o755)
    told = {s.name: s.value for family in gpu_metrics() for s in family.samples}
    assert told["psoas_gpu_utilization_ratio"] == 0.35
    assert told["psoas_gpu_memory_used_bytes"] == 2**31
    program.write_text("#!/bin/sh\necho 'driver gone' >&2; exit 9\n")
    assert list(gpu_metrics()) == []


class _Nothing(Collector):
    def collect(self) -> list[object]:  # type: ignore[override]  # nothing to tell
        return []


def get(port: int | None, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_and_readiness_say_why(bench: Bench) -> None:
    complaints = {"health": "", "spool": ""}
    ready = {"spool": lambda: complaints["spool"], "ledger": lambda: ""}
    address = ("127.0.0.1", 0)
    with exposing(address, _Nothing(), lambda: complaints["health"], ready) as port:
        assert get(port, "/health") == (200, "ok\n")
        status, body = get(port, "/ready")
        assert (status, json.loads(body)) == (200, {"spool": "ok", "ledger": "ok"})
        complaints["health"], complaints["spool"] = "hangs", "3 MiB are free"
        assert get(port, "/health") == (503, "hangs\n")
        status, body = get(port, "/ready")
        assert (status, json.loads(body)["spool"]) == (503, "3 MiB are free")
        assert get(port, "/nowhere")[0] == 404
    assert bench.ledger.counts() == {}


def test_a_broker_that_is_away_turns_no_image_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = node_settings(tmp_path, metrics={"port": port})
    with monitoring(settings):
        status, body = get(port, "/ready")
        assert status == 200
        assert json.loads(body) == {
            "spool": "ok",
            "ledger": "ok",
            "broker": "the broker does not answer",
        }
        assert get(port, "/health")[0] == 503  # nothing listens for images here


def names_in(text: str) -> set[str]:
    names = set(re.findall(r"\bpsoas_[a-z_]+", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def told_names(bench: Bench) -> set[str]:
    from dicom_node.host_metrics import _gpu_families

    families = [*bench.collector.collect(), *_gpu_families([["0", "1", "1", "1", "1"]])]
    return {family.name + ("_total" if family.type == "counter" else "") for family in families}


def expressions(dashboard: Path) -> list[str]:
    panels = json.loads(dashboard.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def run_promtool(tool: Callable[[str], str], *arguments: str, told: str = "") -> str:
    command = [tool("promtool"), *arguments]
    run = subprocess.run(command, input=told, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_promtool_accepts_what_is_told(bench: Bench, tool: Callable[[str], str]) -> None:
    bench.receive(1)
    bench.advance(*SENT, SeriesEvent.MEASURED, SeriesEvent.ALL_DELIVERED)
    with exposing(("127.0.0.1", 0), bench.collector, lambda: "", {}) as port:
        _, text = get(port, "/metrics")
    assert names_in(text) >= {"psoas_series", "psoas_last_image_to_pacs_seconds"}
    ours = "".join(line + "\n" for line in text.splitlines() if "psoas_" in line)
    run_promtool(tool, "check", "metrics", told=ours)


def test_the_rules_and_the_settings_load(repository: Path, tool: Callable[[str], str]) -> None:
    folder = repository / "deploy" / "monitoring"
    assert "rules found" in run_promtool(tool, "check", "rules", str(folder / "alerts.yaml"))
    run_promtool(tool, "check", "config", str(folder / "prometheus.yaml"))


def test_the_rules_fire_when_they_should(repository: Path, tool: Callable[[str], str]) -> None:
    tests = repository / "deploy" / "monitoring" / "alerts.test.yaml"
    assert "SUCCESS" in run_promtool(tool, "test", "rules", str(tests))


def test_every_rule_was_seen_to_fire(repository: Path) -> None:
    folder = repository / "deploy" / "monitoring"
    groups = yaml.safe_load((folder / "alerts.yaml").read_text())["groups"]
    rules = {rule["alert"] for group in groups for rule in group["rules"]}
    tests = yaml.safe_load((folder / "alerts.test.yaml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == rules


def test_the_dashboard_asks_what_prometheus_understands(
    repository: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    asked = expressions(repository / "deploy" / "monitoring" / "grafana-dashboard.json")
    assert asked
    rules = [{"record": f"asked:{number}", "expr": expr} for number, expr in enumerate(asked)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run_promtool(tool, "check", "rules", str(file))


def test_the_dashboard_has_what_grafana_needs(repository: Path) -> None:
    path = repository / "deploy" / "monitoring" / "grafana-dashboard.json"
    dashboard = json.loads(path.read_text())
    assert dashboard["schemaVersion"] >= 36
    assert {"title", "uid", "time", "templating", "panels"} <= set(dashboard)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in dashboard["panels"]:
        assert panel["type"] == "timeseries"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        corner = (place["x"], place["y"])
        assert corner not in taken
        taken.add(corner)


def unknown(told: Any, known: Any, place: str) -> Iterator[str]:
    """Places of what a reader did not understand or changed."""
    if isinstance(told, dict) and isinstance(known, dict):
        for key, value in told.items():
            if key not in known:
                yield f"{place}.{key}"
            else:
                yield from unknown(value, known[key], f"{place}.{key}")
    elif isinstance(told, list) and isinstance(known, list) and len(told) == len(known):
        for number, (one, other) in enumerate(zip(told, known, strict=True)):
            yield from unknown(one, other, f"{place}[{number}]")
    elif told != known:
        yield place


def test_grafana_knows_every_field_of_the_dashboard(repository: Path) -> None:
    path = repository / "deploy" / "monitoring" / "grafana-dashboard.json"
    dashboard = json.loads(path.read_text())
    register_default_plugins()

    def as_grafana_reads(told: dict[str, Any]) -> Any:
        return json.loads(json.dumps(Dashboard.from_json(told), cls=JSONEncoder))

    assert list(unknown(dashboard, as_grafana_reads(dashboard), "dashboard")) == []
    dashboard["panels"][0]["fieldConfig"]["defaults"]["unitt"] = "s"
    (seen,) = unknown(dashboard, as_grafana_reads(dashboard), "dashboard")
    assert seen.endswith(".unitt")


def test_rules_and_dashboard_name_only_what_is_told(bench: Bench, repository: Path) -> None:
    folder = repository / "deploy" / "monitoring"
    asked = names_in((folder / "alerts.yaml").read_text())
    asked |= names_in(" ".join(expressions(folder / "grafana-dashboard.json")))
    bench.receive(1)
    assert asked <= told_names(bench)

"""The playground of compose.yaml: valid, closed, and in agreement with our settings."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from dicom_node.config import NodeSettings, load_settings
from dicom_node.demo.processes import free_port
from dicom_node.probe import is_well
from tests.deploy.commands import understands

Tool = Callable[[str], str]
OURS = ("listener", "node-worker", "gpu-worker", "console")
FOREIGN = ("broker", "ledger", "pacs")


def composed(repository: Path, tool: Tool, *more: str) -> dict[str, Any]:
    """What Docker Compose itself makes of the files; it checks them against its schema."""
    loaded: dict[str, Any] = json.loads(_config(tool("docker-compose"), repository, more))
    return loaded


@cache
def _config(program: str, repository: Path, more: tuple[str, ...]) -> str:
    files = [f"--file=deploy/{name}" for name in ("compose.yaml", *more)]
    command = [program, *files, "config", "--format", "json", "--no-interpolate"]
    run = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def services(repository: Path, tool: Tool) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = composed(repository, tool)["services"]
    return services


@pytest.fixture
def settings(repository: Path, secrets: Path) -> NodeSettings:
    """node.compose.toml as the containers see it."""
    file = secrets.parent / "node.toml"
    shutil.copy(repository / "deploy" / "node.compose.toml", file)
    return load_settings(file)


def seconds(text: str) -> float:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+)([hms])", text))


def test_it_is_everything_that_a_playground_needs(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == {*OURS, *FOREIGN}
    assert services["pacs"]["environment"]["OHIF_PLUGIN_ENABLED"] == "true"


@pytest.mark.parametrize("name", [*OURS, *FOREIGN])
def test_a_service_is_watched_and_pinned(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert re.fullmatch(r"[a-z/]+:(cpu|\d[a-z0-9.-]*)", service["image"]), service["image"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_do_little(services: dict[str, dict[str, Any]], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {volume["target"] for volume in service["volumes"]} == {
        "/etc/psoas/node.toml",
        "/var/lib/psoas",
    }
    assert understands(service["command"])


def test_nothing_is_open_to_the_network(services: dict[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    for port in published:
        host = port["host_ip"] if isinstance(port, dict) else port.rpartition("}")[0] or port
        assert host.startswith(("127.0.0.1", "${PSOAS_BIND:-127.0.0.1")), port
    assert "ports" not in services["broker"]
    assert "ports" not in services["ledger"]


def test_broker_and_ledger_are_on_an_inner_network(repository: Path, tool: Tool) -> None:
    config = composed(repository, tool)
    assert config["networks"]["back"]["internal"] is True
    for name in ("broker", "ledger", "gpu-worker"):
        assert set(config["services"][name]["networks"]) == {"back"}


def test_secrets_are_files(repository: Path, tool: Tool, secrets: Path) -> None:
    config = composed(repository, tool)
    for secret in config["secrets"].values():
        assert set(secret) == {"name", "file"}
        assert (secrets / Path(secret["file"]).name).is_file()
    for service in config["services"].values():
        for key, value in service.get("environment", {}).items():
            assert "PASSWORD" not in key or value.startswith("/run/secrets/"), key


def test_settings_and_containers_agree(
    services: dict[str, dict[str, Any]], settings: NodeSettings
) -> None:
    targets = {name: {secret["target"] for secret in services[name]["secrets"]} for name in OURS}
    passwords = {f"/etc/psoas/secrets/{name}.password" for name in ("ledger", "broker")}
    assert all(passwords <= of_service for of_service in targets.values())
    assert {"/etc/psoas/secrets/console.crt", "/etc/psoas/secrets/console.key"} <= targets[
        "console"
    ]
    assert settings.ledger_url.endswith("@ledger/psoas")
    assert settings.broker.url is not None
    assert "@broker:6379/" in settings.broker.url
    assert settings.destinations[0].host == "pacs"
    pacs = services["pacs"]["environment"]
    assert settings.destinations[0].ae_title == pacs["ORTHANC__DICOM_AET"]
    modality = json.loads(pacs["ORTHANC__DICOM_MODALITIES"])["psoas"]
    assert modality == [settings.listener.ae_title, "listener", settings.listener.port]
    assert pacs["ORTHANC__DICOM_AET"] in settings.storing_ae_titles
    assert str(settings.storage.folder) == "/var/lib/psoas"


def test_health_is_asked_where_it_is_answered(
    services: dict[str, dict[str, Any]], settings: NodeSettings
) -> None:
    ports = {
        "listener": settings.metrics.port,
        "gpu-worker": settings.metrics.worker_port,
        "node-worker": settings.metrics.node_worker_port,
        "console": settings.console.port,
    }
    for name, port in ports.items():
        *program, url = services[name]["healthcheck"]["test"]
        assert program == ["CMD", "python", "-m", "dicom_node.probe"]
        assert f"127.0.0.1:{port}/" in url


def test_whoever_is_told_to_stop_has_the_time_for_it(
    services: dict[str, dict[str, Any]], settings: NodeSettings
) -> None:
    def grace_s(name: str) -> float:
        return seconds(services[name]["stop_grace_period"])

    assert grace_s("gpu-worker") > settings.worker.time_limit_s
    assert grace_s("listener") > settings.listener.stop_grace_s


def test_the_gpu_is_one_file_more(repository: Path, tool: Tool) -> None:
    worker = composed(repository, tool, "compose.gpu.yaml")["services"]["gpu-worker"]
    devices = worker["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert worker["build"]["args"] == {"TORCH_BACKEND": "cu130"}
    assert worker["read_only"] is True


@pytest.mark.network
@pytest.mark.redis
def test_the_broker_asks_for_its_password(
    services: dict[str, dict[str, Any]], secrets: Path, tool: Tool
) -> None:
    tool("redis-server")
    port = free_port()
    shell, option, script = services["broker"]["command"]
    conf = secrets.parent / "password.conf"
    script = script.replace("$$", "$").replace("/tmp/password.conf", str(conf))  # noqa: S108
    script = script.replace("/run/secrets", str(secrets))
    assert script.startswith("printf ")
    with subprocess.Popen(
        [shell, option, f"{script} --port {port} --dir {secrets.parent}"],
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            password = (secrets / "broker.password").read_text()
            with closing(redis.Redis(port=port, password=password)) as client:
                answered = redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 100)
                client.set_retry(answered)
                assert client.ping()
            with (
                closing(redis.Redis(port=port)) as stranger,
                pytest.raises(redis.AuthenticationError),
            ):
                stranger.ping()
        finally:
            process.terminate()
    # The shell gave its place to the server, so that the order to stop reaches it.
    assert process.returncode == 0


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.network
@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False), (404, False)])
def test_the_probe_believes_success_only(status: int, well: bool) -> None:
    with answering(status) as port:
        assert is_well(f"http://127.0.0.1:{port}/health") is well


def test_secrets_are_made_once(secrets: Path, repository: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    assert {"ledger.password", "broker.password", "pacs.users", "console.key"} < set(before)
    assert secrets.stat().st_mode & 0o077 == 0
    subprocess.run(
        ["bash", repository / "deploy" / "secrets.sh", secrets], check=True, capture_output=True
    )
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before

"""Secrets come from files; the settings file names them and no message quotes them."""

from pathlib import Path

import pytest

from dicom_node.config import load_settings
from dicom_node.errors import SettingsError, UnguardedError

TEXT = """
[storage]
folder = "data"
ledger_url = "postgresql+psycopg://psoas@db:5432/psoas?sslmode=require"
ledger_password_file = "secrets/ledger.password"

[broker]
url = "sentinel://one:26379;sentinel://two:26379"
sentinel_master = "psoas"
password_file = "secrets/broker.password"

[worker]
segmenter = "models/ours"

[console]
tls_certificate = "console.crt"
tls_key = "secrets/console.key"

[alarms]
webhook_file = "secrets/webhook"

[[destinations]]
name = "archive"
web = {url = "https://archive/dicom-web", secret_file = "secrets/archive"}
"""
SECRETS = {
    "ledger.password": "p@ss/w:rd\n",
    "broker.password": "br%oker",
    "webhook": "https://chat.example.org/hooks/secret\n",
    "archive": "token",
    "console.key": "key",
}


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    file.write_text(TEXT)
    (tmp_path / "secrets").mkdir()
    for name, secret in SECRETS.items():
        (tmp_path / "secrets" / name).write_text(secret)
    return file


def test_passwords_come_from_their_files(settings_file: Path) -> None:
    settings = load_settings(settings_file)
    quoted = "p%40ss%2Fw%3Ard"
    assert settings.ledger_url == (
        f"postgresql+psycopg://psoas:{quoted}@db:5432/psoas?sslmode=require"
    )
    assert settings.broker.url == "sentinel://:br%25oker@one:26379;sentinel://:br%25oker@two:26379"
    webhook = settings.alarms.webhook
    assert webhook is not None
    assert webhook.get_secret_value() == "https://chat.example.org/hooks/secret"


def test_nothing_shows_a_secret(settings_file: Path) -> None:
    shown = repr(load_settings(settings_file))
    assert "ss%2Fw" not in shown
    assert "oker@" not in shown
    assert "hooks" not in shown


def test_relative_paths_start_at_the_settings_file(settings_file: Path) -> None:
    settings, here = load_settings(settings_file), settings_file.parent
    assert settings.storage.folder == here / "data"
    assert settings.worker.segmenter == here / "models/ours"
    assert settings.console.tls_certificate == here / "console.crt"
    web = settings.destinations[0].web
    assert web is not None
    assert web.secret_file == here / "secrets/archive"


def test_what_systemd_loads_is_taken_first(
    settings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # LoadCredential=secrets:FOLDER names each file of the folder secrets_FILE.
    loaded = tmp_path / "loaded"
    loaded.mkdir()
    (loaded / "secrets_broker.password").write_text("other")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(loaded))
    settings = load_settings(settings_file)
    assert settings.broker.url == "sentinel://:other@one:26379;sentinel://:other@two:26379"
    assert settings.console.tls_key == tmp_path / "secrets/console.key"


@pytest.mark.parametrize("name", ["ledger.password", "broker.password", "webhook"])
def test_a_secret_that_is_missing_or_empty_is_named(settings_file: Path, name: str) -> None:
    file = settings_file.parent / "secrets" / name
    file.write_text("\n")
    with pytest.raises(SettingsError, match=f"{name} is empty"):
        load_settings(settings_file)
    file.unlink()
    with pytest.raises(SettingsError, match=f"{name} cannot be read: No such file"):
        load_settings(settings_file)


def test_a_webhook_is_an_address(settings_file: Path) -> None:
    (settings_file.parent / "secrets" / "webhook").write_text("hush")
    with pytest.raises(SettingsError, match="holds no address") as caught:
        load_settings(settings_file)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("redis://192.0.2.7:6379/0", True),
        ("rediss://redis.example:6379/0", True),
        ("sentinel://localhost:26379;sentinel://two.example:26379", True),
        ("redis://:hush@192.0.2.7:6379/0", False),
        ("rediss://redis.example:6379/0?ssl_certfile=a.pem&ssl_keyfile=b.pem", False),
        ("redis://127.0.0.1:6379/0", False),
        ("redis://[::1]:6379/0", False),
        ("redis+socket:///run/redis.sock", False),
    ],
)
def test_a_broker_that_others_can_reach_needs_a_password(
    tmp_path: Path, url: str, is_open: bool
) -> None:
    file = tmp_path / "node.toml"
    master = '\nsentinel_master = "psoas"' if url.startswith("sentinel") else ""
    file.write_text(f'[storage]\nfolder = "data"\n[broker]\nurl = "{url}"{master}\n')
    if not is_open:
        assert load_settings(file).broker.url == url
        return
    with pytest.raises(UnguardedError, match=r"^broker.url: others can reach [a-z0-9.]+, so"):
        load_settings(file)


@pytest.mark.parametrize(
    ("section", "setting"), [("storage", "ledger_password_file"), ("broker", "password_file")]
)
def test_a_password_needs_something_that_it_opens(
    tmp_path: Path, section: str, setting: str
) -> None:
    file = tmp_path / "node.toml"
    folder = "" if section == "storage" else '[storage]\nfolder = "data"\n'
    rest = 'folder = "data"\n' if section == "storage" else ""
    file.write_text(f'{folder}[{section}]\n{rest}{setting} = "password"\n')
    with pytest.raises(SettingsError, match=f"{setting} needs"):
        load_settings(file)

"""Settings: what is wrong is said in one sentence, what is absent has a safe default."""

from pathlib import Path

import pytest

from dicom_node.config import CompletionSettings, NodeSettings, load_settings
from dicom_node.errors import SettingsError


def write(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(f'[storage]\nfolder = "data"\n{text}')
    return path


def test_defaults_listen_on_loopback_only(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, ""))
    assert settings.listener.host == "127.0.0.1"
    assert settings.completion == CompletionSettings(
        quiet_after_release_s=10, quiet_s=60, cap_s=900
    )


def test_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, ""))
    assert settings.storage.folder == tmp_path / "data"
    assert settings.ledger_url == f"sqlite:///{tmp_path / 'data' / 'ledger.sqlite'}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[listner]\n", "listner"),
        ('[listener]\nport = "eleven"\n', "listener.port"),
        ('[listener]\nae_title = "ABCDEFGHIJKLMNOPQ"\n', "listener.ae_title"),
        ('[listener]\nae_title = "  "\n', "listener.ae_title"),
        ('[listener]\nae_title = "A\\\\B"\n', "listener.ae_title"),
        ('[listener]\nhost = "0.0.0.0"\n', r"\[\[sources\]\]"),
        ('[[sources]]\nae_title = "CT1"\nhost = "not an address"\n', "sources.0.host"),
        ("[completion]\nquiet_s = 0\n", "completion.quiet_s"),
        ('[worker]\ndevice = "tpu"\n', "worker.device"),
        ("[listener\n", "not TOML"),
        (
            '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\nport = 1\n' * 2,
            "the same name",
        ),
        ('[[destinations]]\nname = "a"\nae_title = "A"\n', "destination a needs"),
        (
            '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\nport = 1\n'
            'web = {url = "http://h/dicom-web"}\n',
            "destination a needs",
        ),
    ],
)
def test_fault_is_named(text: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=fault):
        load_settings(write(tmp_path, text))


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"listener\.port.*completion\.cap_s"):
        load_settings(write(tmp_path, "[listener]\nport = -1\n[completion]\ncap_s = -1\n"))


def test_absent_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_settings(tmp_path / "absent.toml")


def test_source_may_have_its_own_completion() -> None:
    own = {"quiet_after_release_s": 1, "quiet_s": 2, "cap_s": 3}
    settings = NodeSettings.model_validate(
        {"storage": {"folder": "x"}, "sources": [{"ae_title": "CT1 ", "completion": own}]}
    )
    assert settings.completion_for("CT1").cap_s == 3
    assert settings.completion_for("CT2").cap_s == 900


def test_settings_cannot_be_changed() -> None:
    settings = NodeSettings.model_validate({"storage": {"folder": "x"}})
    with pytest.raises(ValueError, match="frozen"):
        settings.listener.port = 104  # type: ignore[misc]  # that is the point


def test_addresses_with_passwords_are_not_shown(tmp_path: Path) -> None:
    ledger = "postgresql+psycopg://psoas:hunter2@db/psoas"
    path = tmp_path / "node.toml"
    path.write_text(
        f'[storage]\nfolder = "data"\nledger_url = "{ledger}"\n'
        '[broker]\nurl = "redis://:hunter2@localhost:6379/0"\n'
    )
    settings = load_settings(path)
    assert settings.ledger_url == ledger
    assert "hunter2" not in repr(settings)

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.console.users import Role, UserFile
from dicom_node.errors import SettingsError

PASSWORD = "correct horse battery staple"  # noqa: S105 - of these tests alone


def test_the_file_holds_no_password_and_is_private(tmp_path: Path) -> None:
    file = UserFile.of(tmp_path)
    file.put("olga", Role.OPERATOR, PASSWORD)
    path = tmp_path / "console-users.json"
    assert PASSWORD not in path.read_text()
    assert "$argon2id$" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_only_the_right_password_opens(tmp_path: Path) -> None:
    file = UserFile.of(tmp_path)
    file.put("olga", Role.OPERATOR, PASSWORD)
    user = file.check("olga", PASSWORD)
    assert user is not None
    assert user.role is Role.OPERATOR
    assert file.check("olga", PASSWORD + " ") is None
    assert file.check("nobody", PASSWORD) is None


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    file = UserFile.of(tmp_path)
    with pytest.raises(SettingsError, match="12 characters"):
        file.put("olga", Role.VIEWER, "short")
    with pytest.raises(SettingsError, match="name"):
        file.put("o l g a", Role.VIEWER, PASSWORD)
    with pytest.raises(SettingsError, match="no user"):
        file.remove("olga")
    (tmp_path / "console-users.json").write_text("[1]")
    with pytest.raises(SettingsError, match="not a file of users"):
        file.users()


def test_people_are_named_by_commands(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[storage]\nfolder = "node"\n')
    runner = CliRunner()

    def run(*arguments: str, typed: str = "") -> str:
        result = runner.invoke(app, ["user", *arguments, "--config", str(config)], input=typed)
        assert result.exit_code == 0, result.output
        return result.output

    run("add", "olga", "--role", "operator", typed=f"{PASSWORD}\n{PASSWORD}\n")
    run("add", "vera", "--password-stdin", typed=f"{PASSWORD}\n")
    assert run("list") == "olga  operator\nvera  viewer\n"
    run("remove", "olga")
    assert run("list") == "vera  viewer\n"
    assert UserFile.of(tmp_path / "node").check("vera", PASSWORD)

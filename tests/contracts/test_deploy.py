"""deploy/ and the README name only commands and settings that exist."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from dicom_node.config import NodeSettings, load_settings

DOCUMENTS = (
    "README.md",
    "deploy/README.md",
    "deploy/Dockerfile",
    "deploy/compose.yaml",
    "deploy/node.example.toml",
    "deploy/rules.example.toml",
    "deploy/compose.gpu.yaml",
    "deploy/demo.sh",
)


def test_settings_file_is_valid(repository: Path) -> None:
    assert load_settings(repository / "deploy/node.example.toml").listener.ae_title == "PSOAS"


def setting_names(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        names.add(name)
        candidates: list[Any] = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                names |= setting_names(candidate)
    return names


def test_example_shows_every_setting(repository: Path) -> None:
    text = (repository / "deploy/node.example.toml").read_text()
    missing = {name for name in setting_names(NodeSettings) if not re.search(rf"\b{name}\b", text)}
    assert missing == set()


def defaults_that_differ(model: BaseModel, shown: dict[str, Any]) -> list[str]:
    differing = []
    for name, value in shown.items():
        default = getattr(model, name)
        if isinstance(default, BaseModel):
            differing += defaults_that_differ(default, value)
        elif not isinstance(default, tuple) and default != value:
            differing.append(name)
    return differing


def test_example_shows_the_defaults(repository: Path) -> None:
    shown = tomllib.loads((repository / "deploy/node.example.toml").read_text())
    folder = shown["storage"].pop("folder")
    defaults = NodeSettings.model_validate({"storage": {"folder": folder}})
    assert defaults_that_differ(defaults, shown) == []


def commands_of_the_program() -> set[str]:
    from typer.main import get_command

    from dicom_node.cli import app

    return set(get_command(app).commands)  # type: ignore[attr-defined]  # a group has commands


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_names_only_commands_that_exist(name: str, repository: Path) -> None:
    text = (repository / name).read_text()
    named = set(re.findall(r"(?:^|[\s`/])psoas ([a-z]+)(?=[\s`]|$)", text, re.MULTILINE))
    named |= set(re.findall(r'"psoas", "([a-z]+)"', text))
    assert named <= commands_of_the_program()

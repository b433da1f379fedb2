"""Every setting and every field of a recipe has a reader."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

import dicom_node.config
from training.config import FinetuneRecipe


@cache
def attributes_read(folder: Path, *, besides: Path) -> set[str]:
    """Names that code reads as an attribute: ``settings.listener.port`` gives both."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        if path.is_relative_to(besides):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
    return names


def settings() -> Iterator[str]:
    for value in vars(dicom_node.config).values():
        if isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel:
            yield from value.model_fields


@pytest.mark.parametrize("name", sorted(set(settings())))
def test_setting_is_read(name: str, repository: Path) -> None:
    node = repository / "dicom_node"
    readers = attributes_read(node, besides=node / "config")
    # Some are read by properties of the settings themselves, or when the file is loaded.
    own = {"sources", "destinations", "ledger_url", "completion"}
    own |= {"ledger_password_file", "webhook_file"}
    assert name in readers | own


@pytest.mark.parametrize("name", [field.name for field in fields(FinetuneRecipe)])
def test_field_of_a_recipe_is_read(name: str, repository: Path) -> None:
    training = repository / "training"
    readers = attributes_read(training, besides=training / "config.py")
    # Recipes in epochs are turned into steps beside the recipe itself.
    own = {"cases", "epochs", "warmup_epochs"}
    assert name in readers | own

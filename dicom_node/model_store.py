"""Keep installed weights in the spool, where workers on every host see them.

A model is a folder with manifest and weights, as ``training export`` writes it. Its key is made of
name, version and the first digits of its checksum, so that a key always means the same weights.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dicom_node.errors import UnknownModelError
from dicom_node.spool import Spool
from dicom_node.uids import is_model_key

MODELS: Final = Path("models")
RECORD: Final = "installed.json"
_KEY_DIGITS: Final = 8


class ModelKind(StrEnum):
    """What a model does."""

    SEGMENTER = "segmenter"
    LEVEL_FINDER = "level_finder"
    CLASSIFIER = "classifier"


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """Weights that lie in the spool, as they were found fit when they were installed.

    Parameters
    ----------
    key : str
    kind : ModelKind
    name, version : str
        As in the manifest and in every report.
    sha256 : str
        Of all weight files, as in every report.
    files : mapping of str to str
        Name and SHA-256 of each file.
    installed_at : str
        ISO 8601, UTC.
    """

    key: str
    kind: ModelKind
    name: str
    version: str
    sha256: str
    files: Mapping[str, str] = field(hash=False)
    installed_at: str


def installed_models(spool: Spool) -> tuple[InstalledModel, ...]:
    """Every installed model, by key."""
    folders = spool.path(MODELS).glob(f"[!.]*/{RECORD}")
    return tuple(_read(path) for path in sorted(folders))


def installed_model(key: str, spool: Spool) -> InstalledModel:
    """Return one installed model.

    Raises
    ------
    UnknownModelError
        It is not installed, or its files are no longer what they were.
    """
    path = spool.path(MODELS / key / RECORD)
    if not is_model_key(key) or not path.is_file():
        known = ", ".join(model.key for model in installed_models(spool)) or "none is"
        raise UnknownModelError(f"no model {key} is installed: {known}")
    return _read(path)


def changed_files(model: InstalledModel, spool: Spool) -> tuple[str, ...]:
    """Names of files whose content is no longer what was installed."""
    folder = spool.path(MODELS / model.key)
    return tuple(
        name
        for name, sha256 in model.files.items()
        if not (folder / name).is_file() or digest(folder / name) != sha256
    )


def model_folder(key: str, spool: Spool) -> Path | None:
    """Folder to load a model from; ``None`` for an empty key."""
    return spool.path(MODELS / key) if key else None


def model_files(spool: Spool) -> Sequence[Path]:
    """Every file of installed models, relative to the spool."""
    files = [
        MODELS / model.key / name
        for model in installed_models(spool)
        for name in (*model.files, RECORD)
    ]
    return [path for path in files if spool.path(path).is_file()]


def model_key(name: str, version: str, sha256: str) -> str:
    """Key of weights with this name, version and checksum."""
    words = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{name}-{version}").strip("._-")[:80]
    return f"{words or 'model'}-{sha256[:_KEY_DIGITS]}"


def keys_of(measurement: Mapping[str, Any]) -> frozenset[str]:
    """Keys of the models that made a measurement; none without one."""
    if not measurement:
        return frozenset()
    models = [measurement["model"], *measurement["level_models"]]
    opinion = measurement.get("second_opinion")
    models += [opinion["model"]] if opinion else []
    return frozenset(model_key(one["name"], one["version"], one["sha256"]) for one in models)


def chosen_models(
    active: Mapping[ModelKind, str], asked_for: str | None, spool: Spool
) -> tuple[str, str, str]:
    """Keys of segmenter, level finder and classifier for one series.

    Parameters
    ----------
    active : mapping of ModelKind to str
        What is in use; a kind that is absent is what the settings name.
    asked_for : str or None
        Key of a model that takes the place of the active one of its kind.
    spool : Spool

    Raises
    ------
    UnknownModelError
    """
    keys = dict(active)
    if asked_for is not None:
        keys[installed_model(asked_for, spool).kind] = asked_for
    return (
        keys.get(ModelKind.SEGMENTER, ""),
        keys.get(ModelKind.LEVEL_FINDER, ""),
        keys.get(ModelKind.CLASSIFIER, ""),
    )


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> InstalledModel:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return InstalledModel(**data | {"kind": ModelKind(data["kind"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownModelError(f"model {path.parent.name} is damaged: {error!r}") from None

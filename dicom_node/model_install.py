"""Install weights: copy them into the spool once they were found fit."""

import json
import secrets
import shutil
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

from dicom_node.errors import SpoolError
from dicom_node.model_store import (
    MODELS,
    RECORD,
    InstalledModel,
    ModelKind,
    digest,
    installed_model,
    model_key,
)
from dicom_node.part_file import flush_folder
from dicom_node.spool import Spool
from pipeline.classify import load_classifier
from pipeline.errors import ModelError
from pipeline.level.l3 import load_level_finder
from pipeline.networks.classifier import CLASSES
from pipeline.weights import choose_device, load_model, read_manifest

_MANIFEST: Final = "manifest.json"


def install_model(folder: Path, spool: Spool, at: datetime) -> InstalledModel:
    """Copy a model into the spool, after it was loaded as a worker would load it.

    Parameters
    ----------
    folder : Path
        With ``manifest.json``.
    spool : Spool
    at : datetime

    Raises
    ------
    ModelError
        The manifest does not fit the weights, or this version of Psoas cannot use them.
    SpoolError
        It cannot be copied.
    """
    manifest = read_manifest(folder)
    identity = manifest.identity
    key = model_key(identity.name, identity.version, identity.sha256)
    target = spool.path(MODELS / key)
    if target.is_dir():
        known = installed_model(key, spool)
        if known.files[_MANIFEST] != digest(folder / _MANIFEST):
            raise ModelError(f"{key} is installed with another manifest: give it a new version")
        return known
    part = target.with_name(f".{key}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(mode=0o700, parents=True)
        for path in (folder / _MANIFEST, *manifest.files):
            shutil.copyfile(path, part / path.name)
        # The copy is what will be used, so the copy is what is tried.
        kind = _fitting_kind(part)
        digests = {path.name: digest(path) for path in sorted(part.iterdir())}
        model = InstalledModel(
            key,
            kind,
            identity.name,
            identity.version,
            identity.sha256,
            digests,
            at.isoformat(timespec="seconds"),
        )
        (part / RECORD).write_text(json.dumps(asdict(model), indent=2), encoding="utf-8")
        flush_folder(part)
        part.rename(target)
        flush_folder(target.parent)
    except OSError as error:
        raise SpoolError(f"model {key} cannot be installed: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return model


def _fitting_kind(folder: Path) -> ModelKind:
    """Load a model as each kind in turn; the fault of a segmenter is the one that is told."""
    device = choose_device("cpu")
    if read_manifest(folder).labels == CLASSES:
        load_classifier(folder, device)
        return ModelKind.CLASSIFIER
    try:
        load_model(folder, device)
    except ModelError as fault:
        try:
            load_level_finder(folder, device)
        except ModelError:
            raise fault from None
        return ModelKind.LEVEL_FINDER
    return ModelKind.SEGMENTER

"""Helpers for tests of result objects."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from pipeline.objects.identity import ResultContext
from tests.phantoms import TorsoPhantom

CREATED_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def context_of(phantom: TorsoPhantom, sources: Sequence[Dataset] | None = None) -> ResultContext:
    """Return what results of a phantom need."""
    datasets = phantom.datasets() if sources is None else sources
    return ResultContext(tuple(datasets), CREATED_AT, "9.9")


def saved(result: Dataset, folder: Path) -> Dataset:
    """Write a result to a file and read it back."""
    path = folder / "result.dcm"
    result.save_as(path, enforce_file_format=True)
    return dcmread(path)

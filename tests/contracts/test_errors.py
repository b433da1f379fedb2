"""Error codes are stable, unique and documented."""

from collections import Counter
from pathlib import Path

import pytest

import dicom_node.errors
import pipeline.errors


def leaves(base: type[Exception]) -> list[type[Exception]]:
    subclasses = base.__subclasses__()
    return [leaf for child in subclasses for leaf in leaves(child)] if subclasses else [base]


ALL_LEAVES = [*leaves(pipeline.errors.PipelineError), *leaves(dicom_node.errors.NodeError)]


def code_of(error: type[Exception]) -> str:
    return str(getattr(error, "code", ""))


def test_every_leaf_has_a_code_of_its_own() -> None:
    counts = Counter(code_of(error) for error in ALL_LEAVES)
    assert "" not in counts
    assert [code for code, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("error", ALL_LEAVES, ids=lambda error: error.__name__)
def test_code_stands_in_the_tree_of_its_module(error: type[Exception]) -> None:
    module = pipeline.errors if error.__module__ == "pipeline.errors" else dicom_node.errors
    line = next(row for row in (module.__doc__ or "").splitlines() if f" {error.__name__} " in row)
    assert line.endswith(code_of(error))


@pytest.mark.parametrize("error", ALL_LEAVES, ids=lambda error: error.__name__)
def test_manual_explains_the_code(error: type[Exception], repository: Path) -> None:
    manual = (repository / "deploy" / "README.md").read_text()
    assert f"`{code_of(error)}`" in manual

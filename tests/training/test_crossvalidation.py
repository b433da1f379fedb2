from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.cases import labelled_phantoms
from training.config import FinetuneRecipe
from training.crossvalidation import (
    choose_thresholds,
    conformal_scores,
    group_patients,
    measure_folds,
    nested,
    train_folds,
)
from training.evaluate import SliceResult
from training.finetune import finetune


def _row(
    patient: str, threshold: float, measured_cm2: float, slice_index: int = 0, case: str = ""
) -> SliceResult:
    return SliceResult(
        case or patient, patient, slice_index, threshold, 0.9, 100.0, measured_cm2, 2.0
    )


def test_patient_does_not_choose_the_threshold_it_is_measured_with() -> None:
    results = {
        0.4: [_row("a", 0.4, 100.0), _row("b", 0.4, 120.0), _row("c", 0.4, 120.0)],
        0.5: [_row("a", 0.5, 140.0), _row("b", 0.5, 101.0), _row("c", 0.5, 101.0)],
    }
    chosen = choose_thresholds(results)
    assert chosen["a"] == 0.5
    rows = nested(results, chosen)
    assert sorted(row.patient for row in rows) == ["a", "b", "c"]
    assert next(row for row in rows if row.patient == "a").measured_cm2 == 140.0


def test_one_score_for_each_patient_at_the_middle_of_l3() -> None:
    rows = [_row("a", 0.5, 150.0, 0), _row("a", 0.5, 103.0, 7), _row("b", 0.5, 110.0)]
    scores = conformal_scores(rows, {"a": 7})
    assert scores == pytest.approx([3 / np.hypot(2.0, 1.03), 10 / np.hypot(2.0, 1.1)])


def test_each_patient_is_measured_by_the_run_that_did_not_see_it(tmp_path: Path) -> None:
    slices = labelled_phantoms()
    recipe = FinetuneRecipe(
        name="tiny", network="smit_test", steps=1, batch=1, held_out=("second",)
    )
    finetune(recipe, slices, tmp_path / "second", resume=False)
    results = measure_folds(tmp_path, slices, (0.4, 0.5))
    assert {row.patient for rows in results.values() for row in rows} == {"second"}
    assert [row.threshold for rows in results.values() for row in rows] == [0.4, 0.5]


def test_groups_hold_every_patient_once_and_split_those_with_many_slices() -> None:
    slices = labelled_phantoms()
    many = [s for s in slices if s.patient == "first"] * 3
    other = [replace(s, patient=name) for s in many[:2] for name in ("third", "fourth")]
    groups = group_patients([*many, *slices, *other], 2)
    assert sorted(patient for group in groups for patient in group) == [
        "first",
        "fourth",
        "second",
        "third",
    ]
    assert [len(group) for group in groups] == [2, 2]


def test_groups_are_single_patients_when_there_are_not_more() -> None:
    assert group_patients(labelled_phantoms(), 10**6) == [("first",), ("second",)]


def test_each_fold_goes_on_from_the_one_that_left_out_the_same(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def note(command: Sequence[str], **_: object) -> None:
        asked.append(command)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.crossvalidation.subprocess.run", note)
        train_folds([("a", "b"), ("c",)], ["recipe.toml"], tmp_path / "on", 1, tmp_path / "before")
    starts = [words[words.index("--weights") + 1] for words in asked]
    assert starts == [str(tmp_path / "before" / "a+b"), str(tmp_path / "before" / "c")]

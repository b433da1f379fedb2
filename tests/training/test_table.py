from dataclasses import replace
from pathlib import Path

import torch

from tests.training.cases import labelled_phantoms
from training.benchmark import compare, describe
from training.config import FinetuneRecipe
from training.export import ModelDescription, export
from training.finetune import finetune
from training.table import FoldRow, measure_table, table_lines

RECIPE = FinetuneRecipe(name="tiny", network="smit_test", steps=1, batch=1)


def test_folds_are_measured_by_the_run_that_left_them_out(tmp_path: Path) -> None:
    slices = labelled_phantoms()
    dealt = {"fold_01": ("first",), "fold_02": ("second",)}
    for fold, patients in dealt.items():
        finetune(replace(RECIPE, held_out=patients), slices, tmp_path / fold, resume=False)
    rows = measure_table(dealt, slices, tmp_path)
    assert [(row.fold, row.patients, row.slices) for row in rows] == [
        ("fold_01", 1, 2),
        ("fold_02", 1, 1),
    ]
    assert "| mean ± SD | 2 |" in (tmp_path / "table.md").read_text()


def test_table_shows_every_fold_and_the_mean() -> None:
    rows = [FoldRow("fold_01", 8, 8, 0.94, 3.17), FoldRow("fold_02", 8, 8, 0.92, 10.01)]
    lines = table_lines(rows)
    assert lines[2] == "| fold_01 | 8 | 0.940 | 3.17 % |"
    assert lines[4] == "| mean ± SD | 16 | 0.930 ± 0.010 | 6.59 ± 3.42 % |"


def test_card_holds_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    path = finetune(RECIPE, labelled_phantoms(), tmp_path / "run", resume=False)
    summary = {
        "slices": 3, "patients": 2, "dice": 0.9131, "absolute_error_percent": 4.24,
        "worst_error_percent": 9.9, "bias_percent": -1.26, "limits_percent": (-8.1, 6.0),
    }  # fmt: skip
    measured = ModelDescription("own", "1", 0.4, evaluation={"summary": summary, "by_patient": {}})
    export([path], measured, tmp_path / "model")
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert "Research use only" in card
    assert "| all 2 patients | 3 | 0.913 | 4.2 % | 9.9 % | -1.3 % |" in card
    export([path], replace(measured, evaluation=None), tmp_path / "model")
    assert "Not measured" in (tmp_path / "model" / "MODEL_CARD.md").read_text()


def test_weights_of_the_best_validation_are_exported(tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=2, validation=("second",), validation_steps=1)
    path = finetune(recipe, labelled_phantoms(), tmp_path / "run", resume=False)
    state = torch.load(path, weights_only=True)
    state["best"] = {key: torch.full_like(value, 2) for key, value in state["best"].items()}
    torch.save(state, path)
    export([path], ModelDescription("own", "1", 0.4), tmp_path / "model")
    from safetensors.torch import load_file

    tensors = load_file(tmp_path / "model" / "member_0.safetensors")
    assert {float(value.float().mean()) for value in tensors.values()} == {2.0}


def test_benchmark_runs_both_pipelines_and_training() -> None:
    speed = compare(labelled_phantoms()[:1], 2, helpers=0, train=RECIPE)
    assert speed.training is not None
    for rate in (speed.ours, speed.monai, speed.training):
        assert rate.samples_per_s > 0
        assert rate.busy_cores > 0
    assert "MONAI" in describe(speed)

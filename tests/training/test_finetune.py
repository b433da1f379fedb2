import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.weights import load_model
from tests.training.cases import labelled_phantoms
from training import checkpoint
from training.config import (
    CASES_FOLDER,
    FinetuneRecipe,
    finetune_in_steps,
    read_finetune_recipe,
)
from training.data import LabelledSlice, chances, fingerprint, sample
from training.export import ModelDescription, export
from training.finetune import (
    collate,
    draw_sample,
    finetune,
    learning_rate_share,
    start,
    train_step,
)
from training.losses import dice_cross_entropy
from training.runfolder import read_metrics

RECIPES = CASES_FOLDER.parent / "recipes"

RECIPE = FinetuneRecipe(name="tiny", network="smit_test", steps=4, batch=1, checkpoint_steps=2)


@pytest.fixture
def slices() -> list[LabelledSlice]:
    return labelled_phantoms()


def test_steps_reduce_the_loss(slices: list[LabelledSlice]) -> None:
    recipe = replace(RECIPE, learning_rate=3e-3, warmup_steps=1)
    run = start(recipe)
    batch = [sample(slices[0], recipe.preprocess)]
    losses = [train_step(run, recipe, batch) for _ in range(4)]
    assert losses[-1] < losses[0]


def test_run_that_was_stopped_at_any_step_ends_where_an_unbroken_one_ends(
    slices: list[LabelledSlice], tmp_path: Path
) -> None:
    unbroken = checkpoint.load(finetune(RECIPE, slices, tmp_path / "a", resume=False))
    # Three of four steps of the same schedule, then a new process would go on.
    run = start(RECIPE)
    while run.step < 3:
        train_step(run, RECIPE, [draw_sample(RECIPE, slices, chances(slices), run.step, 0)])
    checkpoint.save(tmp_path / "b" / "checkpoint.pt", run.state())
    torch.manual_seed(99)
    resumed = checkpoint.load(finetune(RECIPE, slices, tmp_path / "b", resume=True))
    assert resumed["step"] == unbroken["step"] == 4
    for key, value in unbroken["average"].items():
        assert torch.equal(resumed["average"][key], value), key


def test_training_goes_on_from_a_run_or_from_exported_weights(
    slices: list[LabelledSlice], tmp_path: Path
) -> None:
    earlier = finetune(replace(RECIPE, held_out=("second",)), slices, tmp_path / "run", False)
    model = tmp_path / "model"
    export([earlier], ModelDescription("own", "1", 0.5), model)
    wanted = load_model(model, torch.device("cpu")).networks[0].state_dict()
    for source in (tmp_path / "run", model):
        began = start(replace(RECIPE, weights=str(source), held_out=("second",))).network
        for key, value in began.state_dict().items():
            assert torch.equal(value, wanted[key]), key


def test_weights_that_have_seen_a_patient_to_be_left_out_are_refused(
    slices: list[LabelledSlice], tmp_path: Path
) -> None:
    finetune(replace(RECIPE, held_out=("second",)), slices, tmp_path, False)
    for unseen in ({"held_out": ("first",)}, {"validation": ("first",)}):
        with pytest.raises(ValueError, match="was trained on first"):
            start(replace(RECIPE, weights=str(tmp_path), **unseen))


def test_weights_of_another_preprocessing_are_refused(
    slices: list[LabelledSlice], tmp_path: Path
) -> None:
    finetune(RECIPE, slices, tmp_path, False)
    coarse = replace(RECIPE.preprocess, spacing_mm=(3.0, 3.0))
    with pytest.raises(ValueError, match="another preprocessing"):
        start(replace(RECIPE, weights=str(tmp_path), preprocess=coarse))


def test_checkpoint_of_an_earlier_version_goes_on(
    slices: list[LabelledSlice], tmp_path: Path
) -> None:
    run = start(RECIPE)
    known = ("step", "network", "average", "optimizer")
    old = {k: v for k, v in run.state().items() if k in known} | {"step": 3}
    checkpoint.save(tmp_path / "checkpoint.pt", old, np.random.default_rng(0))
    assert checkpoint.load(finetune(RECIPE, slices, tmp_path, resume=True))["step"] == 4


def test_validation_keeps_the_best_weights_and_ends_a_run_that_gets_no_better(
    slices: list[LabelledSlice], tmp_path: Path
) -> None:
    recipe = replace(
        RECIPE, steps=9, learning_rate=0.0, validation=("second",), validation_steps=1, patience=2
    )
    state = checkpoint.load(finetune(recipe, slices, tmp_path, resume=False))
    assert state["step"] == 3
    assert state["best_score"][0] == 1
    assert state["best"].keys() == state["average"].keys()
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows if "validation_error" in row] == [1, 2, 3]


def test_run_folder_says_how_the_run_was_made_and_how_it_went(
    slices: list[LabelledSlice], tmp_path: Path
) -> None:
    finetune(replace(RECIPE, picture_steps=4), slices, tmp_path, resume=False)
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["recipe"]["steps"] == 4
    assert facts["seed"] == 1
    assert facts["code"]["torch"] == torch.__version__
    assert facts["data"] == fingerprint(slices)
    assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4]
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert list((tmp_path / "tensorboard").glob("events.*"))
    assert (tmp_path / "pictures" / "prediction_0000004.png").exists()


def test_fingerprint_changes_with_a_label(slices: list[LabelledSlice]) -> None:
    labels = slices[0].labels.copy()
    labels[3, 3] ^= 1
    assert fingerprint([replace(slices[0], labels=labels), *slices[1:]]) != fingerprint(slices)


def test_accumulated_batches_make_the_step_of_one_large_batch(slices: list[LabelledSlice]) -> None:
    large = replace(RECIPE, batch=2, arguments={"drop_path": 0.0})
    small = replace(large, batch=1, accumulate=2)
    batch = [sample(slices[0], RECIPE.preprocess)] * 2
    first, second = start(large), start(small)
    losses = train_step(first, large, batch), train_step(second, small, batch)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_paper_recipe_is_the_paper() -> None:
    recipe = finetune_in_steps(read_finetune_recipe(RECIPES / "paper.toml"), 47)
    assert recipe.steps == 200 * 47 / (recipe.batch * recipe.accumulate)
    assert recipe.learning_rate == 1e-4
    assert (recipe.preprocess.window.lower_hu, recipe.preprocess.window.upper_hu) == (-175, 250)


def test_held_out_patients_are_not_seen(slices: list[LabelledSlice], tmp_path: Path) -> None:
    recipe = replace(RECIPE, held_out=("first",), steps=1)
    broken = replace(slices[0], labels=np.full((2, 2), 9, dtype=np.uint8))
    kept = [s for s in slices if s.patient != "first"]
    finetune(recipe, [broken, *kept], tmp_path, resume=False)
    with pytest.raises((ValueError, IndexError)):
        finetune(replace(RECIPE, held_out=("second",)), [broken, *kept], tmp_path, resume=False)


def test_checkpoint_says_how_it_was_made(slices: list[LabelledSlice], tmp_path: Path) -> None:
    path = finetune(replace(RECIPE, steps=1), slices, tmp_path, resume=False)
    recipe = checkpoint.load(path)["recipe"]
    assert json.loads(json.dumps(recipe))["preprocess"]["spacing_mm"] == [1.5, 1.5]


def test_batch_is_padded_with_air(slices: list[LabelledSlice]) -> None:
    one = sample(slices[0], RECIPE.preprocess)
    small = replace(one, image=one.image[:, :64, :32], fractions=one.fractions[:, :64, :32])
    images, fractions = collate([one, small])
    assert images.shape == (2, *one.image.shape)
    assert fractions.sum(1).allclose(torch.tensor(1.0), atol=1e-5)
    assert float(images[1, :, 64:].max()) == 0
    assert float(fractions[1, 0, 64:].min()) == 1


def test_loss_is_lowest_for_exact_fractions() -> None:
    torch.manual_seed(0)
    fractions = torch.softmax(torch.randn(2, 5, 8, 8), dim=1)
    weights = torch.ones(2)
    exact = dice_cross_entropy(fractions.log(), fractions, weights)
    for change in (0.8, 1.2):
        assert dice_cross_entropy(fractions.log() * change, fractions, weights) > exact


def test_confidence_weighs_slices() -> None:
    torch.manual_seed(0)
    logits, fractions = torch.randn(2, 5, 8, 8), torch.softmax(torch.randn(2, 5, 8, 8), dim=1)
    only_first = dice_cross_entropy(logits, fractions, torch.tensor([1.0, 0.0]))
    assert only_first == dice_cross_entropy(logits[:1], fractions[:1], torch.ones(1))


def test_learning_rate_rises_then_falls() -> None:
    recipe = replace(RECIPE, steps=100, warmup_steps=10)
    shares = [learning_rate_share(step, recipe) for step in range(100)]
    assert shares[9] == 1
    assert shares[0] == pytest.approx(0.1)
    assert shares[-1] < 0.001
    assert np.all(np.diff(shares[10:]) < 0)

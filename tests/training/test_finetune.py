import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.cases import labelled_phantoms
from training import checkpoint
from training.config import FinetuneRecipe
from training.data import LabelledSlice, draw_order, sample
from training.finetune import collate, finetune, learning_rate_share, start, train_step
from training.losses import dice_cross_entropy

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


def test_resumed_run_ends_bit_for_bit_where_an_unbroken_one_ends(
    slices: list[LabelledSlice], tmp_path: Path
) -> None:
    unbroken = checkpoint.load(finetune(RECIPE, slices, tmp_path / "a", resume=False))
    # Half of the steps of the same schedule, then a new process would go on.
    half = tmp_path / "b"
    generator = np.random.default_rng(0)
    run = start(RECIPE)
    while run.step < 2:
        batch = [
            sample(slices[i], RECIPE.preprocess, RECIPE.augmentation, run.generator)
            for i in draw_order(slices, RECIPE.batch, run.generator)
        ]
        train_step(run, RECIPE, batch)
    checkpoint.save(half / "checkpoint.pt", run.state(), run.generator)
    torch.manual_seed(99)
    generator.random()
    resumed = checkpoint.load(finetune(RECIPE, slices, half, resume=True))
    assert resumed["step"] == unbroken["step"] == 4
    for key, value in unbroken["average"].items():
        assert torch.equal(resumed["average"][key], value), key


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

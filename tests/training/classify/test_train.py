import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.classify import classifier_image
from pipeline.preprocess import PreprocessSpec, prepare
from tests.training.cases import labelled_phantoms
from tests.training.classify.people import write_people
from training import checkpoint
from training.classify.cases import (
    ClassedSlice,
    chances,
    class_weights,
    classed_image,
    read_classed,
)
from training.classify.recipe import PLAIN, ClassifyRecipe, read_recipe, recipe_of
from training.classify.train import draw_sample, start, train, train_step, unfreeze
from training.config import CASES_FOLDER

SPEC = PreprocessSpec(spacing_mm=(6.0, 6.0), side_multiple=64, smallest_side=64)
RECIPE = ClassifyRecipe(
    name="tiny", network="densenet121", epochs=1, batch=2, preprocess=SPEC, validation=("p0", "p4")
)
CPU = torch.device("cpu")


@pytest.fixture
def slices(tmp_path: Path) -> list[ClassedSlice]:
    return read_classed(tmp_path, write_people(tmp_path))


def test_training_sees_bit_for_bit_what_the_node_sees(slices: list[ClassedSlice]) -> None:
    served = classifier_image(prepare(slices[0].volume, 1, SPEC).image, SPEC)
    assert np.array_equal(classed_image(slices[0], SPEC), served)
    generator = np.random.default_rng(0)
    assert not np.array_equal(classed_image(slices[0], SPEC, PLAIN, generator), served)


def test_class_is_stated_or_follows_from_area_and_sex(tmp_path: Path) -> None:
    path = write_people(tmp_path)
    assert [one.low for one in read_classed(tmp_path, path)] == [False, False, False, True, True]
    # The cut-off of women is 92 cm2, that of men 144 cm2.
    for sex, area, expected in (("F", 91.0, True), ("F", 93.0, False), ("M", 143.0, True)):
        path.write_text(
            f'[[case]]\nname = "a"\npatient = "p"\nsex = "{sex}"\nmuscle_cm2 = {area}\n'
            'images = "volumes/0.npy"\nslice = 1\n'
        )
        assert [one.low for one in read_classed(tmp_path, path)] == [expected]
    path.write_text('[[case]]\nname = "a"\npatient = "p"\nimages = "volumes/0.npy"\nslice = 1\n')
    with pytest.raises(ValueError, match="whether its muscle is low"):
        read_classed(tmp_path, path)


def test_both_classes_weigh_alike_and_patients_too() -> None:
    volume = labelled_phantoms()[0].volume
    people = [ClassedSlice("", f"p{i}", "F", volume, 0, i < 18) for i in range(79)]
    not_low, low = class_weights(people)
    assert 18 * low == pytest.approx(61 * not_low)
    assert 18 * low + 61 * not_low == pytest.approx(79)
    twice = [people[0], people[0], people[1]]
    assert chances(twice) == pytest.approx([0.25, 0.25, 0.5])
    with pytest.raises(ValueError, match="0 patients with low muscle and 61 without"):
        class_weights(people[18:])


def test_blocks_are_unfrozen_from_the_head_to_all_with_falling_rates() -> None:
    _, run = start(RECIPE, CPU)
    network = run.network
    shares = []
    for blocks in range(len(network.blocks) + 1):
        optimizer = unfreeze(network, RECIPE, blocks)
        learning = [name for name, one in network.named_parameters() if one.requires_grad]
        shares.append(sum(1 for _ in learning))
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates[0] == pytest.approx(max(1e-3 * 0.3**blocks, 1e-4))
        assert rates == pytest.approx([rates[0] * 0.5**i for i in range(blocks + 1)])
        held = {id(one) for group in optimizer.param_groups for one in group["params"]}
        assert held == {id(one) for one in network.parameters() if one.requires_grad}
    assert shares[0] == 2
    assert shares == sorted(set(shares))
    assert shares[-1] == sum(1 for _ in network.parameters())


def test_frozen_blocks_keep_their_statistics(slices: list[ClassedSlice]) -> None:
    recipe, run = start(RECIPE, CPU)
    run.stage = 1
    run.optimizer = unfreeze(run.network, recipe, 1)
    before = {k: v.clone() for k, v in run.network.state_dict().items()}
    batch = [draw_sample(recipe, slices, chances(slices), 0, place) for place in range(2)]
    train_step(run, recipe, batch, torch.ones(2))
    changed = {k for k, v in run.network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all("denseblock4" in key or "norm5" in key or "head" in key for key in changed)
    assert any("running_mean" in key for key in changed)


def test_run_that_was_stopped_ends_where_an_unbroken_one_ends(
    slices: list[ClassedSlice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = checkpoint.load(train(RECIPE, slices, tmp_path / "a", resume=False))
    assert unbroken["stage"] == 6
    assert unbroken["step"] == 6 * 2
    assert recipe_of(unbroken["recipe"]) == RECIPE
    saved: list[Path] = []

    def save_twice(path: Path, state: dict[str, object]) -> None:
        checkpoint_save(path, state)
        saved.append(path)
        if len(saved) == 3:
            raise KeyboardInterrupt

    checkpoint_save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", save_twice)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, slices, tmp_path / "b", resume=False)
    monkeypatch.undo()
    torch.manual_seed(99)
    resumed = checkpoint.load(train(RECIPE, slices, tmp_path / "b", resume=True))
    assert resumed["best_score"] == unbroken["best_score"]
    for key, value in unbroken["network"].items():
        assert torch.equal(resumed["network"][key], value), key


def test_recipe_needs_no_labels_and_one_side(tmp_path: Path) -> None:
    recipe = read_recipe(CASES_FOLDER.parent / "recipes" / "classify.toml")
    assert recipe.preprocess.smallest_side == 224
    assert recipe.augmentation == PLAIN
    path = tmp_path / "odd.toml"
    for text, message in (
        ('name = "a"\n[augmentation]\nclear_chance = 0.5', "no labels"),
        ('name = "a"\n[preprocess]\nside_multiple = 32', "one number"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_recipe(path)
    path.write_text('name = "a"\nstep = 3\n[preprocess]\nside_multiple = 192')
    with pytest.raises(TypeError, match="step"):
        read_recipe(path)


def test_published_weights_are_the_start_and_ask_for_their_arguments(tmp_path: Path) -> None:
    _, run = start(RECIPE, CPU)
    state = run.network.backbone.state_dict()
    published = {key.replace(".layers.", "."): value for key, value in state.items()}
    torch.save(published, tmp_path / "imagenet.pth")
    recipe, other = start(replace(RECIPE, seed=2, published=str(tmp_path / "imagenet.pth")), CPU)
    assert recipe.arguments == {"scaling": "imagenet"}
    ours, theirs = (r.network.backbone.state_dict() for r in (run, other))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    facts = json.dumps(recipe.to_dict())
    assert "imagenet.pth" in facts

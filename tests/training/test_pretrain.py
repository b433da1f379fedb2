import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.preprocess import HUWindow
from tests.phantoms import TorsoPhantom
from training import checkpoint
from training.batches import stacked
from training.branch import unfold_pixels
from training.config import (
    CASES_FOLDER,
    FinetuneRecipe,
    PretrainRecipe,
    pretrain_in_steps,
    read_pretrain_recipe,
)
from training.distillation import (
    ProjectionHead,
    cross_entropy,
    draw_mask,
    enlarge,
    information,
    masked_l1,
)
from training.finetune import start as start_finetuning
from training.precision import low_precision
from training.pretrain import CollapseError, draw_sample, pretrain, pretrain_step, start
from training.schedules import teacher_temperature
from training.unlabelled import Unlabelled, draw_views
from training.volume_views import draw_volume_views

RECIPES = CASES_FOLDER.parent / "recipes"

RECIPE = PretrainRecipe(
    name="tiny", network="smit_test", steps=4, batch=2, region=96, crop=64, hidden=16,
    bottleneck=8, prototypes=32, checkpoint_steps=2, warmup_steps=1, freeze_steps=1,
)  # fmt: skip


@pytest.fixture
def unlabelled() -> Unlabelled:
    volumes = tuple(TorsoPhantom(shape=(2, 100, 120), fat_mm=f).volume() for f in (15.0, 30.0))
    return Unlabelled(volumes, np.array([0.5, 0.5]))


def views(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.stack([draw_mask(2, (4, 4), 0.7, generator) for _ in range(2)])
    return torch.rand(2, 2, 1, 64, 64, generator=generator), masks


def test_mask_hides_the_same_number_of_cells_everywhere() -> None:
    # 16^3 voxels per cell in 96^3: 152 of 216, as published.
    mask = draw_mask(3, (6, 6, 6), 0.7, torch.Generator().manual_seed(0))
    assert mask.flatten(1).sum(1).tolist() == [152, 152, 152]
    assert not torch.equal(mask[0], mask[1])


def test_mask_grows_with_its_cells() -> None:
    mask = torch.tensor([[[[True, False]]]])
    assert enlarge(mask, 2).int().tolist() == [[[[1, 1, 0, 0], [1, 1, 0, 0]]]]


def test_image_loss_counts_masked_pixels_only() -> None:
    image = torch.rand(1, 1, 4, 4)
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    wrong = image + torch.where(mask, 0.5, 9.0)
    assert float(masked_l1(wrong, image, mask)) == pytest.approx(0.5)
    assert float(masked_l1(image, image, mask)) == 0


def test_distillation_equals_a_hand_computed_value() -> None:
    teacher = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    student = torch.tensor([[0.0, 0.1 * math.log(3.0)], [5.0, 1.0]])
    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    loss = cross_entropy(teacher, student, 0.1, torch.tensor([1.0, 0.0]))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_head_compares_directions() -> None:
    head = ProjectionHead(6, 8, 4, 10, normalised=False)
    cosines = head(torch.randn(3, 5, 6)).detach()
    assert cosines.shape == (3, 5, 10)
    assert float(cosines.abs().max()) <= 1 + 1e-6


def test_information_knows_both_collapses() -> None:
    uniform = information(torch.full((4, 8), 1 / 8))
    certain = information(torch.eye(8)[[0, 0, 0]])
    telling = information(torch.eye(8))
    assert uniform.entropy == pytest.approx(uniform.largest)
    assert certain.entropy == certain.mutual == 0
    assert telling.mutual == pytest.approx(math.log(8))


def test_teacher_starts_as_the_student_and_follows_it_exactly() -> None:
    run = start(RECIPE)
    before = [p.clone() for p in run.teacher.parameters()]
    pairs = zip(before, run.student.parameters(), strict=True)
    assert all(torch.equal(teacher, student) for teacher, student in pairs)
    pretrain_step(run, RECIPE, views())
    students = list(run.student.parameters())
    for old, new, student in zip(before, run.teacher.parameters(), students, strict=True):
        # The first step of a cosine from 0.996 to 1.
        assert torch.allclose(new, 0.996 * old + 0.004 * student, atol=1e-6)
        assert new.grad is None


def test_prototypes_stay_fixed_at_first() -> None:
    run = start(RECIPE)
    before = run.student.patch_head.prototypes.clone()
    pretrain_step(run, RECIPE, views())
    assert torch.equal(run.student.patch_head.prototypes, before)
    pretrain_step(run, RECIPE, views())
    assert not torch.equal(run.student.patch_head.prototypes, before)


def test_masked_pixels_are_learned() -> None:
    recipe = replace(RECIPE, steps=100, learning_rate=3e-3)
    run = start(recipe)
    fixed = (torch.full((2, 2, 1, 64, 64), 0.5), views()[1])
    losses = [pretrain_step(run, recipe, fixed)["image"] for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0]


def test_collapse_stops_the_run() -> None:
    recipe = replace(RECIPE, collapse_steps=2)
    run = start(recipe)
    with torch.no_grad():
        for branch in (run.student, run.teacher):
            branch.patch_head.prototypes[:] = branch.patch_head.prototypes[:1]
    pretrain_step(run, recipe, views())
    with pytest.raises(CollapseError, match="nats"):
        pretrain_step(run, recipe, views())


def test_run_that_was_stopped_at_any_step_ends_where_an_unbroken_one_ends(
    unlabelled: Unlabelled, tmp_path: Path
) -> None:
    unbroken = checkpoint.load(pretrain(RECIPE, unlabelled, tmp_path / "a", resume=False))
    run = start(RECIPE)
    # Three of four steps, which is no multiple of the steps between checkpoints.
    while run.step < 3:
        drawn = [draw_sample(RECIPE, unlabelled, 2, run.step, place) for place in range(2)]
        pretrain_step(run, RECIPE, stacked(drawn))
    checkpoint.save(tmp_path / "b" / "checkpoint.pt", run.state())
    torch.manual_seed(99)
    resumed = checkpoint.load(pretrain(RECIPE, unlabelled, tmp_path / "b", resume=True))
    for kind in ("student", "teacher_branch"):
        for key, value in unbroken[kind].items():
            assert torch.equal(resumed[kind][key], value), key


def test_helpers_that_draw_ahead_change_nothing(unlabelled: Unlabelled, tmp_path: Path) -> None:
    alone, helped = (
        checkpoint.load(pretrain(recipe, unlabelled, tmp_path / str(recipe.helpers), resume=False))
        for recipe in (replace(RECIPE, steps=2), replace(RECIPE, steps=2, helpers=1))
    )
    assert all(torch.equal(helped["student"][k], v) for k, v in alone["student"].items())


def test_accumulated_batches_make_the_step_of_one_large_batch() -> None:
    """Batch norm would see other batches, so without it; and every image has as many masks."""
    large = replace(RECIPE, head_norm=False, arguments={"drop_path": 0.0})
    small = replace(large, batch=1, accumulate=2)
    runs = {recipe.accumulate: start(recipe) for recipe in (large, small)}
    first = {1: large, 2: small}
    losses = [pretrain_step(runs[n], first[n], views()) for n in (1, 2)]
    assert losses[0]["image"] == pytest.approx(losses[1]["image"], rel=1e-5)
    for one, other in zip(runs[1].student.parameters(), runs[2].student.parameters(), strict=True):
        # Adam's first step is the sign of the gradient, which is noise where it is zero.
        assert torch.allclose(one, other, atol=1e-6) or (one - other).abs().mean() < 1e-4


def test_bfloat16_learns_too() -> None:
    recipe = replace(RECIPE, steps=100, learning_rate=3e-3, precision="bfloat16")
    run = start(recipe)
    fixed = (torch.full((2, 2, 1, 64, 64), 0.5), views()[1])
    losses = [pretrain_step(run, recipe, fixed)["image"] for _ in range(3)]
    assert losses[-1] < losses[0]
    assert {p.dtype for p in run.student.parameters()} == {torch.float32}
    with pytest.raises(ValueError, match="needs CUDA"):
        low_precision("float16", torch.device("cpu"))


def test_volumes_are_pretrained_on_in_three_dimensions(tmp_path: Path) -> None:
    volume = TorsoPhantom(shape=(40, 64, 64), pixel_mm=6.0).volume()
    recipe = replace(
        RECIPE, arguments={"spatial_dims": 3}, volume_spacing_mm=(4.0, 4.0, 4.0), region=48,
        crop=32, steps=1, batch=1, picture_steps=1,
    )  # fmt: skip
    path = pretrain(recipe, Unlabelled((volume,), np.array([1.0])), tmp_path, resume=False)
    assert checkpoint.load(path)["student"]["patch_embed.proj.weight"].ndim == 5
    assert (tmp_path / "pictures" / "masked_0000001.png").exists()


def test_volume_views_show_the_body_upright_at_their_spacing() -> None:
    phantom = TorsoPhantom(shape=(60, 100, 100), pixel_mm=4.0)
    generator = np.random.default_rng(0)
    drawn = draw_volume_views(phantom.volume(), HUWindow(), (2.0,) * 3, (96, 96), generator)
    assert drawn.shape == (2, 1, 96, 96, 96)
    bone = np.argwhere(drawn[0, 0] > 0.99)
    # The vertebra is a cylinder of 50 by 36 mm that lies behind the middle.
    if len(bone):
        assert np.ptp(bone[:, 0]) * 2 <= 52
        assert np.ptp(bone[:, 1]) * 2 <= 38


def test_cells_become_pixels_as_pixel_shuffle_has_it() -> None:
    features = torch.rand(2, 32 * 32, 3, 2)
    assert torch.equal(unfold_pixels(features, 1), torch.pixel_shuffle(features, 32))


def test_epochs_become_steps() -> None:
    recipe = pretrain_in_steps(read_pretrain_recipe(RECIPES / "pretrain_full.toml"), 3643)
    assert recipe.steps == math.ceil(500 * 3643 / 6)
    assert recipe.warmup_steps == math.ceil(20 * 3643 / 6)
    assert recipe.temperature_rise == 30 / 500 == recipe.patch_temperature_start


def test_temperature_of_patches_rises_later() -> None:
    recipe = replace(RECIPE, steps=100, temperature_rise=0.3, patch_temperature_start=0.3)
    whole = [teacher_temperature(step, recipe, patch=False) for step in (0, 15, 30, 60)]
    patch = [teacher_temperature(step, recipe, patch=True) for step in (0, 30, 45, 60)]
    assert whole == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert patch == pytest.approx([0.04, 0.04, 0.055, 0.07])


def test_fine_tuning_starts_from_the_student(unlabelled: Unlabelled, tmp_path: Path) -> None:
    path = pretrain(replace(RECIPE, steps=1), unlabelled, tmp_path, resume=False)
    recipe = FinetuneRecipe(name="tiny", network="smit_test", pretrained=str(path))
    started = start_finetuning(recipe).network.get_submodule("transformer").state_dict()
    student = checkpoint.load(path)["student"]
    assert all(torch.equal(started[key], value) for key, value in student.items())
    assert "mask_token" not in started


def test_views_lie_near_each_other_and_show_tissue(unlabelled: Unlabelled) -> None:
    drawn = [draw_views(unlabelled, RECIPE, 2, np.random.default_rng(s)) for s in range(5)]
    assert {d.shape for d in drawn} == {(2, 1, 64, 64)}
    assert np.mean([(d > 0).mean() for d in drawn]) > 0.25

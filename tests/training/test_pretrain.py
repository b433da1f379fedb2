import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.networks import build_network
from tests.phantoms import TorsoPhantom
from training import checkpoint
from training.config import FinetuneRecipe, PretrainRecipe
from training.distillation import (
    ProjectionHead,
    cross_entropy,
    draw_mask,
    enlarge,
    information,
    masked_l1,
)
from training.finetune import start as start_finetuning
from training.pretrain import CollapseError, pretrain, pretrain_step, start
from training.unlabelled import Unlabelled, draw_views

RECIPE = PretrainRecipe(
    name="tiny", network="smit_test", steps=4, batch=2, region=96, crop=64, hidden=16,
    bottleneck=8, prototypes=32, checkpoint_steps=2, warmup_steps=1, freeze_steps=1,
)  # fmt: skip


@pytest.fixture
def unlabelled() -> Unlabelled:
    volumes = tuple(TorsoPhantom(shape=(2, 100, 120), fat_mm=f).volume() for f in (15.0, 30.0))
    return Unlabelled(volumes, np.array([0.5, 0.5]))


def views(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 2, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


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
    fixed = torch.full((2, 2, 1, 64, 64), 0.5)
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


def test_resumed_run_ends_bit_for_bit_where_an_unbroken_one_ends(
    unlabelled: Unlabelled, tmp_path: Path
) -> None:
    unbroken = checkpoint.load(pretrain(RECIPE, unlabelled, tmp_path / "a", resume=False))
    run = start(RECIPE)
    while run.step < 2:
        drawn = [
            draw_views(unlabelled, RECIPE.preprocess, (96, 64), RECIPE.augmentation, run.generator)
            for _ in range(2)
        ]
        pretrain_step(run, RECIPE, torch.from_numpy(np.stack(drawn, axis=1)))
    checkpoint.save(tmp_path / "b" / "checkpoint.pt", run.state(), run.generator)
    torch.manual_seed(99)
    resumed = checkpoint.load(pretrain(RECIPE, unlabelled, tmp_path / "b", resume=True))
    for key, value in unbroken["student"].items():
        assert torch.equal(resumed["student"][key], value), key


def test_fine_tuning_starts_from_the_student(unlabelled: Unlabelled, tmp_path: Path) -> None:
    path = pretrain(replace(RECIPE, steps=1), unlabelled, tmp_path, resume=False)
    recipe = FinetuneRecipe(name="tiny", network="smit_test", pretrained=str(path))
    started = start_finetuning(recipe).network.get_submodule("transformer").state_dict()
    student = checkpoint.load(path)["student"]
    assert all(torch.equal(started[key], value) for key, value in student.items())
    assert "mask_token" not in started


def test_views_lie_near_each_other_and_show_tissue(unlabelled: Unlabelled) -> None:
    drawn = [
        draw_views(
            unlabelled, RECIPE.preprocess, (96, 64), RECIPE.augmentation, np.random.default_rng(s)
        )
        for s in range(5)
    ]
    assert {d.shape for d in drawn} == {(2, 1, 64, 64)}
    assert np.mean([(d > 0).mean() for d in drawn]) > 0.25


def test_network_of_volumes_is_refused() -> None:
    with pytest.raises(TypeError, match="slices"):
        start(replace(RECIPE, arguments={"spatial_dims": 3}))
    assert build_network("smit_test", {"spatial_dims": 3}) is not None

"""Other levels than L3 are a recipe."""

import numpy as np
import pytest

from pipeline.preprocess import prepare
from pipeline.types import Acquisition, CTVolume, SliceSource
from training.config import CASES_FOLDER, FinetuneRecipe, read_finetune_recipe
from training.data import LabelledSlice, sample
from training.external.areas import through_grid
from training.finetune import start, train_step

RECIPES = CASES_FOLDER.parent / "recipes"


def thighs(gap_mm: float, radii_mm: tuple[float, float]) -> LabelledSlice:
    """Two discs of fat with muscle within and bone in the middle, 1 mm pixels."""
    rows, columns = np.ogrid[:512, :512]
    hu = np.full((512, 512), -1000, dtype=np.int16)
    labels = np.zeros((512, 512), dtype=np.uint8)
    left = 256 - gap_mm / 2 - radii_mm[0]
    right = 256 + gap_mm / 2 + radii_mm[1]
    for middle, radius in ((left, radii_mm[0]), (right, radii_mm[1])):
        distance = np.hypot(rows - 256, columns - middle)
        for within, value, label in ((radius, -100, 3), (radius - 18, 50, 1), (14, 600, 5)):
            hu[distance < within], labels[distance < within] = value, label
    affine = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [5, 0, 0, 0], [0, 0, 0, 1]])
    volume = CTVolume(hu[None], affine, (SliceSource("1"),), "", Acquisition(5.0))
    return LabelledSlice("thighs", "p", volume, 0, labels, 1.0)


@pytest.fixture
def recipe() -> FinetuneRecipe:
    return read_finetune_recipe(RECIPES / "mid_thigh.toml")


@pytest.mark.parametrize(
    ("gap_mm", "radii_mm"), [(10.0, (80.0, 84.0)), (60.0, (95.0, 90.0)), (4.0, (60.0, 70.0))]
)
def test_both_thighs_lie_on_the_grid_and_keep_their_area(
    recipe: FinetuneRecipe, gap_mm: float, radii_mm: tuple[float, float]
) -> None:
    drawn = thighs(gap_mm, radii_mm)
    back = through_grid(drawn.volume, 0, drawn.muscle, recipe.preprocess)
    assert np.count_nonzero(back) == pytest.approx(np.count_nonzero(drawn.muscle), rel=0.01)
    # With the margin of the trunk the smaller thigh would be lost.
    trunk = read_finetune_recipe(RECIPES / "t12.toml").preprocess
    assert np.count_nonzero(
        through_grid(drawn.volume, 0, drawn.muscle, trunk)
    ) < 0.9 * np.count_nonzero(drawn.muscle)


def test_recipe_trains_a_step_on_thighs(recipe: FinetuneRecipe) -> None:
    drawn = thighs(10.0, (60.0, 64.0))
    tiny = FinetuneRecipe("tiny", "smit_test", steps=1, batch=1, preprocess=recipe.preprocess)
    run = start(tiny)
    assert np.isfinite(train_step(run, tiny, [sample(drawn, recipe.preprocess)]))
    shape = prepare(drawn.volume, 0, recipe.preprocess).image.shape
    assert max(shape) * 1.5 > 2 * 270

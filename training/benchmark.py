"""Samples per second of our loader and of MONAI's reference pipeline, with the same transforms.

Both read NIfTI or stored volumes of a data folder, orient them, resample a slice to the grid of the
network, apply the window, and draw rotation, zoom, flip, noise, blur and a change of scale. MONAI's
pipeline is the usual one: ``CacheDataset`` over ``LoadImaged`` ... ``ScaleIntensityRanged``, random
transforms after it.
"""

# SimpleITK types only some of its methods.
# mypy: disable-error-code="no-untyped-call"

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.preprocess import PreprocessSpec
from training.augment import Augmentation
from training.batches import draw_batches, generator_of
from training.cavity import Cavity
from training.config import FinetuneRecipe
from training.data import LabelledSlice, Sample, chances, sample
from training.finetune import draw_sample, start, train_step
from training.habitus import Habitus

SHARED: Final = Augmentation(
    rotation_deg=10.0, zoom=0.1, stretch=0.0, shear=0.0, shift_mm=0.0, flip_chance=0.5,
    elastic_chance=0.0, contrast_chance=0.0, noise_chance=0.5, noise_hu=35.0, blur_chance=0.5,
    blur_mm=1.4, sharpen_chance=0.0, tone_chance=0.5, clear_chance=0.0, truncation_chance=0.0,
    habitus=Habitus(layer_chance=0.0, wasting_chance=0.0, infiltration_chance=0.0),
    cavity=Cavity(organ_chance=0.0, fluid_chance=0.0),
)  # fmt: skip
"""What MONAI has too."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Samples per second, and how many processors were busy with them on average."""

    samples_per_s: float
    busy_cores: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Rates of each pipeline and of training, and how many samples there were.

    Parameters
    ----------
    ours, monai : Rate
    training : Rate or None
        Fine-tuning of the compact network, samples drawn ahead.
    samples, helpers : int
    """

    ours: Rate
    monai: Rate
    training: Rate | None
    samples: int
    helpers: int


def compare(
    slices: Sequence[LabelledSlice], samples: int, helpers: int, train: FinetuneRecipe | None = None
) -> Speed:
    """Time both pipelines over the same slices; the first sample of each is not counted.

    Parameters
    ----------
    slices : sequence of LabelledSlice
    samples : int
    helpers : int
        Processes that draw ahead, for both.
    train : FinetuneRecipe or None
        Time so many samples of this training too.
    """
    spec = PreprocessSpec()
    torch.set_num_threads(1)
    return Speed(
        ours=_rate(partial(draw_ours, list(slices), spec), samples, helpers),
        monai=_rate(_MonaiPipeline(slices, spec), samples, helpers),
        training=_training_rate(train, list(slices), samples, helpers) if train else None,
        samples=samples,
        helpers=helpers,
    )


def draw_ours(slices: list[LabelledSlice], spec: PreprocessSpec, step: int, place: int) -> Sample:
    """Draw one sample as fine-tuning does."""
    generator = generator_of(1, step, place)
    return sample(slices[step % len(slices)], spec, SHARED, generator)


class _MonaiPipeline:
    """Slices through MONAI's dictionary transforms; deterministic ones are cached."""

    def __init__(self, slices: Sequence[LabelledSlice], spec: PreprocessSpec) -> None:
        from monai import transforms as t
        from monai.data.meta_tensor import MetaTensor

        side = spec.smallest_side
        window = spec.window
        keys = ["image", "label"]
        fixed = t.Compose(
            [
                t.EnsureChannelFirstd(keys, channel_dim="no_channel"),
                t.Orientationd(keys, axcodes="RAS", labels=None),
                t.Spacingd(keys, pixdim=(*spec.spacing_mm, 5.0), mode=("bilinear", "nearest")),
                t.SqueezeDimd(keys, dim=-1),
            ]
        )
        self._random = t.Compose(
            [
                t.RandGaussianNoised("image", prob=0.5, std=35.0),
                t.RandGaussianSmoothd("image", prob=0.5, sigma_x=(0.2, 0.9), sigma_y=(0.2, 0.9)),
                t.RandScaleIntensityd("image", factors=0.1, prob=0.5),
                t.RandAffined(
                    keys, prob=1.0, rotate_range=0.3, scale_range=0.1,
                    mode=("bilinear", "nearest"), padding_mode="border",
                ),
                t.RandFlipd(keys, prob=0.5, spatial_axis=0),
                t.ScaleIntensityRanged("image", window.lower_hu, window.upper_hu, 0, 1, clip=True),
                t.ResizeWithPadOrCropd(keys, (side, side)),
                t.AsDiscreted("label", to_onehot=8),
            ]
        )  # fmt: skip
        self._cached = [fixed(_item(MetaTensor, one)) for one in slices]

    def __call__(self, step: int, place: int) -> Any:  # noqa: ANN401 - MONAI's dictionary
        self._random.set_random_state(seed=step * 4099 + place)
        return self._random(dict(self._cached[step % len(self._cached)]))


def _item(tensor: Callable[..., Any], one: LabelledSlice) -> dict[str, Any]:
    """Wrap one slice with its RAS affine, axes (column, row, slice) as in NIfTI."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ one.volume.affine[:, [2, 1, 0, 3]]

    def wrapped(pixels: NDArray[Any]) -> Any:  # noqa: ANN401 - MONAI's tensor
        values = torch.from_numpy(np.asarray(pixels, dtype=np.float32).T[..., None].copy())
        return tensor(values, affine=torch.from_numpy(affine.copy()))

    return {"image": wrapped(one.volume.hu[one.slice_index]), "label": wrapped(one.labels)}


def _rate(draw: Callable[[int, int], Any], samples: int, helpers: int) -> Rate:
    batches = draw_batches(draw, list, range(samples + 1), [0], helpers)
    next(batches)
    began = _clocks()
    return _since(began, sum(1 for _ in batches))


def _training_rate(
    recipe: FinetuneRecipe, slices: list[LabelledSlice], samples: int, helpers: int
) -> Rate:
    run = start(recipe)
    draw = partial(draw_sample, recipe, slices, chances(slices))
    steps = max(1, samples // recipe.batch)
    batches = draw_batches(draw, list, range(steps + 1), range(recipe.batch), helpers)
    train_step(run, recipe, next(batches))
    began = _clocks()
    for batch in batches:
        train_step(run, recipe, batch)
    return _since(began, steps * recipe.batch)


def _clocks() -> tuple[float, float]:
    """Time, and processor time of this process and of the helpers that have ended."""
    return time.monotonic(), sum(os.times()[:4])


def _since(began: tuple[float, float], samples: int) -> Rate:
    # Helpers end with their last batch, so that their time is counted here.
    seconds, processor_seconds = (now - then for now, then in zip(_clocks(), began, strict=True))
    return Rate(samples / seconds, processor_seconds / seconds)


def describe(speed: Speed) -> str:
    """Return the comparison in one line."""
    rates = [("ours", speed.ours), ("MONAI", speed.monai), ("training", speed.training)]
    said = [
        f"{name} {rate.samples_per_s:.1f} samples/s with {rate.busy_cores:.2f} cores busy"
        for name, rate in rates
        if rate is not None
    ]
    return f"{', '.join(said)} ({speed.samples} samples, {speed.helpers} helpers)"

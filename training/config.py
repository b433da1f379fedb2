"""The settings of a training run, read from a recipe."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.preprocess import HUWindow, PreprocessSpec
from training.augment import Augmentation
from training.habitus import Habitus

CASES_FOLDER: Final = Path(__file__).parent / "cases"


@dataclass(frozen=True, slots=True)
class FinetuneRecipe:
    """How to train a segmenter on labelled slices.

    Parameters
    ----------
    name : str
        Of the model; also of its folder.
    network : str
        A key of ``pipeline.networks.NETWORKS``.
    arguments : Mapping
        Of the network, besides its output channels.
    cases : str
        File name of a case list beside this module, or a path.
    held_out : tuple of str
        Patients that training must not see.
    steps, batch : int
    learning_rate, weight_decay : float
    warmup_steps : int
        The rate rises linearly over these, then falls as a cosine to zero.
    average_decay : float
        Of the running mean of the weights, which is what is evaluated and exported.
    clip : float
        Largest norm of the gradient.
    seed : int
    threads : int
        Of the processor.
    checkpoint_steps : int
        A checkpoint is written after each so many steps.
    pretrained : str
        Checkpoint of pre-training whose student encoder is the start; empty for a fresh start.
    preprocess : PreprocessSpec
    augmentation : Augmentation
    """

    name: str
    network: str = "smit_compact"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    cases: str = "labelled_l3.toml"
    held_out: tuple[str, ...] = ()
    steps: int = 1500
    batch: int = 2
    learning_rate: float = 5e-4
    weight_decay: float = 1e-5
    warmup_steps: int = 50
    average_decay: float = 0.99
    clip: float = 3.0
    seed: int = 1
    threads: int = 1
    checkpoint_steps: int = 100
    pretrained: str = ""
    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def case_list(self) -> Path:
        """Path of the case list."""
        bundled = CASES_FOLDER / self.cases
        return bundled if bundled.exists() else Path(self.cases)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"preprocess": self.preprocess.to_dict()}


@dataclass(frozen=True, slots=True)
class PretrainRecipe:
    """How to train an encoder without labels.

    Parameters
    ----------
    name : str
    network : str
        A SMIT of two dimensions.
    arguments : Mapping
    images : str
        File name of a list of images beside this module, or a path.
    steps, batch : int
    region, crop : int
        Sides in cells: of the region that both views come from, and of a view.
    mask_ratio : float
        Share of cells of 16 x 16 that the student does not see.
    hidden, bottleneck, prototypes : int
        Sizes of the projection heads.
    head_norm : bool
        Batch norm in the heads.
    distillation_weight : float
        Of either distillation; the prediction of masked pixels weighs 1.
    student_temperature : float
    teacher_temperature : tuple[float, float]
    temperature_rise : float
        Share of the run over which the teacher's temperature rises from the first to the second.
    center_momentum, teacher_momentum : float
    freeze_steps : int
        The prototypes stay fixed for so many steps.
    collapse_steps : int
        Pre-training stops after so many collapsed steps in a row.
    learning_rate, weight_decay : float
    warmup_steps : int
    clip : float
    seed, threads, checkpoint_steps : int
    preprocess : PreprocessSpec
    augmentation : Augmentation
    """

    name: str
    network: str = "smit_compact"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    images: str = "unlabelled.toml"
    steps: int = 1500
    batch: int = 4
    region: int = 160
    crop: int = 128
    mask_ratio: float = 0.7
    hidden: int = 256
    bottleneck: int = 64
    prototypes: int = 1024
    head_norm: bool = True
    distillation_weight: float = 0.1
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    temperature_rise: float = 0.3
    center_momentum: float = 0.9
    teacher_momentum: float = 0.996
    freeze_steps: int = 20
    collapse_steps: int = 100
    learning_rate: float = 6e-4
    weight_decay: float = 0.01
    warmup_steps: int = 40
    clip: float = 3.0
    seed: int = 1
    threads: int = 1
    checkpoint_steps: int = 50
    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def image_list(self) -> Path:
        """Path of the list of images."""
        bundled = CASES_FOLDER / self.images
        return bundled if bundled.exists() else Path(self.images)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"preprocess": self.preprocess.to_dict()}


def read_finetune_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> FinetuneRecipe:
    """Read a recipe for fine-tuning.

    Parameters
    ----------
    path : Path
    changes : Mapping or None
        Fields to set instead of the file's.

    Raises
    ------
    TypeError
        If the file names a field that does not exist.
    """
    values = _read(path) | dict(changes or {})
    values["held_out"] = tuple(values.get("held_out", ()))
    return FinetuneRecipe(**values)


def read_pretrain_recipe(path: Path) -> PretrainRecipe:
    """Read a recipe for pre-training; as ``read_finetune_recipe``."""
    values = _read(path)
    if "teacher_temperature" in values:
        values["teacher_temperature"] = tuple(values["teacher_temperature"])
    return PretrainRecipe(**values)


def _read(path: Path) -> dict[str, Any]:
    """Read TOML and build the parts that both kinds of recipe share."""
    values = tomllib.loads(path.read_text())
    preprocess = dict(values.pop("preprocess", {}))
    window = HUWindow(**preprocess.pop("window", {}))
    if "spacing_mm" in preprocess:
        preprocess["spacing_mm"] = tuple(preprocess["spacing_mm"])
    values["preprocess"] = PreprocessSpec(window=window, **preprocess)
    augmentation = dict(values.pop("augmentation", {}))
    habitus = Habitus(**augmentation.pop("habitus", {}))
    values["augmentation"] = Augmentation(habitus=habitus, **augmentation)
    return values

"""Training of a classifier: slices with their class in, weights out, one block more at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from pipeline.classify import low_probability
from pipeline.networks import build_network
from pipeline.networks.classifier import Classifier
from pipeline.weights import choose_device
from training import checkpoint
from training.batches import draw_batches, generator_of
from training.classify.cases import ClassedSlice, chances, class_weights, classed_image
from training.classify.published import read_backbone
from training.classify.recipe import ClassifyRecipe
from training.classify.scores import area_under_curve, balanced_accuracy
from training.interruption import stop_requests
from training.progress import bar
from training.runfolder import RunFolder, recording

log = structlog.get_logger(__name__)

_WORST: Final = (-1.0, -math.inf)


@dataclass(slots=True)
class Run:
    """What a training run changes step by step.

    Parameters
    ----------
    network : Classifier
    optimizer : Adam
        Of the present stage.
    device : torch.device
    step, stage : int
        Steps of all stages together; the stage is the number of unfrozen blocks.
    ends_at : int
        Step at which the stage ends.
    best : dict or None
        Weights with the best area under the curve in validation.
    best_score : tuple of float
        That area, and the loss with its sign turned.
    best_accuracy : float
        Largest balanced accuracy of the stage.
    worse : int
        Epochs of the stage since then.
    """

    network: Classifier
    optimizer: Adam
    device: torch.device
    step: int = 0
    stage: int = 0
    ends_at: int = 0
    best: dict[str, Tensor] | None = None
    best_score: tuple[float, float] = _WORST
    best_accuracy: float = -1.0
    worse: int = 0

    @property
    def over(self) -> bool:
        """Whether the last stage has ended."""
        return self.stage > len(self.network.blocks)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "step": self.step,
            "stage": self.stage,
            "ends_at": self.ends_at,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "best_score": self.best_score,
            "best_accuracy": self.best_accuracy,
            "worse": self.worse,
        }


def train(
    recipe: ClassifyRecipe, slices: list[ClassedSlice], out: Path, resume: bool, device: str = "cpu"
) -> Path:
    """Train one classifier.

    Parameters
    ----------
    recipe : ClassifyRecipe
    slices : list of ClassedSlice
        Those of held-out and of validation patients are left out here.
    out : Path
        Folder of the run.
    resume : bool
        Go on from the last checkpoint when there is one.
    device : str
        As for ``pipeline.weights.choose_device``.

    Returns
    -------
    Path
        The last checkpoint.
    """
    torch.set_num_threads(recipe.threads)
    unseen = {*recipe.held_out, *recipe.validation}
    kept = [s for s in slices if s.patient not in unseen]
    judges = [s for s in slices if s.patient in recipe.validation]
    weights = class_weights(kept)
    recipe, run = start(recipe, choose_device(device))
    path = out / "checkpoint.pt"
    if resume and path.exists():
        _restore(run, recipe, checkpoint.load(path))
    else:
        run.ends_at = _steps_of_a_stage(recipe, kept)
    facts = {
        "kind": "classify", "recipe": recipe.to_dict(), "seed": recipe.seed,
        "class_weights": weights,
        "patients": {
            "low": len({s.patient for s in kept if s.low}),
            "not_low": len({s.patient for s in kept if not s.low}),
        },
    }  # fmt: skip
    log.info("training starts", slices=len(kept), step=run.step, stage=run.stage)
    with recording(out, facts, writes=True) as folder, stop_requests() as stopping:
        while not run.over and not stopping():
            _train_stage(run, recipe, (kept, judges), weights, folder)
            state = run.state() | {"recipe": recipe.to_dict(), "class_weights": weights}
            checkpoint.save(path, state)
    return path


def start(recipe: ClassifyRecipe, device: torch.device) -> tuple[ClassifyRecipe, Run]:
    """Build the network from seed and published weights, with everything frozen but its head.

    Returns
    -------
    tuple
        The recipe with the arguments that the published weights ask for, and the run.
    """
    torch.manual_seed(recipe.seed)
    published = read_backbone(Path(recipe.published), recipe.network) if recipe.published else None
    if published is not None:
        recipe = replace(recipe, arguments={**published.arguments, **recipe.arguments})
    network = build_network(recipe.network, recipe.arguments)
    if not isinstance(network, Classifier):
        raise TypeError(f"{recipe.network} is no classifier")
    if published is not None:
        network.backbone.load_state_dict(dict(published.state))
    network = network.to(device)
    return recipe, Run(network, unfreeze(network, recipe, 0), device)


def unfreeze(network: Classifier, recipe: ClassifyRecipe, blocks: int) -> Adam:
    """Let the head and the last ``blocks`` blocks learn, and nothing else.

    Returns
    -------
    Adam
        Rates fall by ``block_factor`` from block to block towards the entrance.
    """
    network.backbone.requires_grad_(requires_grad=False)
    rate = max(recipe.head_rate * recipe.stage_factor**blocks, recipe.least_rate)
    groups: list[dict[str, Any]] = [{"params": list(network.head.parameters()), "lr": rate}]
    for distance, block in enumerate(network.blocks[::-1][:blocks]):
        modules = [network.backbone.get_submodule(name) for name in block]
        for module in modules:
            module.requires_grad_(requires_grad=True)
        weights = [one for module in modules for one in module.parameters()]
        groups.append({"params": weights, "lr": rate * recipe.block_factor ** (distance + 1)})
    return Adam(groups, weight_decay=recipe.weight_decay)


def draw_sample(
    recipe: ClassifyRecipe,
    slices: Sequence[ClassedSlice],
    shares: NDArray[np.float64],
    step: int,
    place: int,
) -> tuple[NDArray[np.float32], int]:
    """Draw the image and the class that lie in one place of the batch of a step."""
    generator = generator_of(recipe.seed, step, place)
    one = slices[generator.choice(len(slices), p=shares)]
    return classed_image(one, recipe.preprocess, recipe.augmentation, generator), int(one.low)


def train_step(
    run: Run,
    recipe: ClassifyRecipe,
    batch: Sequence[tuple[NDArray[np.float32], int]],
    weights: Tensor,
) -> float:
    """Do one step of the optimiser and return the loss."""
    # Dropout depends on the step alone, so that a resumed run draws the same.
    torch.manual_seed(recipe.seed * 1_000_003 + run.step)
    _let_learn(run)
    images = torch.from_numpy(np.stack([image for image, _ in batch])).to(run.device)
    classes = torch.tensor([low for _, low in batch], device=run.device)
    loss = functional.cross_entropy(run.network(images), classes, weights)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call] # torch
    run.optimizer.step()
    run.step += 1
    return float(loss.detach())


def predict(
    network: nn.Module, recipe: ClassifyRecipe, slices: Sequence[ClassedSlice], device: torch.device
) -> NDArray[np.float64]:
    """Probability of low muscle of each slice."""
    network.eval()
    found = []
    with torch.inference_mode():
        for one in slices:
            image = torch.from_numpy(classed_image(one, recipe.preprocess))[None].to(device)
            found.append(float(low_probability(network(image))))
    return np.array(found)


def _train_stage(
    run: Run,
    recipe: ClassifyRecipe,
    parts: tuple[Sequence[ClassedSlice], Sequence[ClassedSlice]],
    weights: tuple[float, float],
    folder: RunFolder,
) -> None:
    """Train until an epoch has been validated or the stage has ended."""
    kept, judges = parts
    epoch = _steps_of_an_epoch(recipe, kept)
    until = min(run.step + epoch, run.ends_at)
    batches = draw_batches(
        partial(draw_sample, recipe, kept, chances(kept)), list, range(run.step, until),
        range(recipe.batch), recipe.helpers,
    )  # fmt: skip
    of_classes = torch.tensor(weights, device=run.device)
    losses = []
    with bar(f"stage {run.stage}", run.ends_at, run.step) as advance:
        for batch in batches:
            losses.append(train_step(run, recipe, batch, of_classes))
            advance(run.step, loss=losses[-1])
    numbers = {"loss": float(np.mean(losses)), "unfrozen_blocks": float(run.stage)}
    if judges:
        numbers |= _judge(run, recipe, judges, weights)
    folder.log(run.step, numbers)
    log.info("epoch", step=run.step, **{name: round(v, 4) for name, v in numbers.items()})
    enough = 0 < recipe.patience <= run.worse
    if enough or run.step >= run.ends_at:
        _next_stage(run, recipe, kept)


def _judge(
    run: Run,
    recipe: ClassifyRecipe,
    judges: Sequence[ClassedSlice],
    weights: tuple[float, float],
) -> dict[str, float]:
    """Validate, and keep the weights with the largest area under the curve."""
    low = np.array([one.low for one in judges])
    found = predict(run.network, recipe, judges, run.device)
    right = np.clip(np.where(low, found, 1 - found), 1e-7, 1)
    loss = float(-np.mean(np.where(low, weights[1], weights[0]) * np.log(right)))
    area, accuracy = area_under_curve(low, found), balanced_accuracy(low, found >= 0.5)
    if (area, -loss) > run.best_score:
        run.best_score = (area, -loss)
        run.best = {k: v.detach().cpu().clone() for k, v in run.network.state_dict().items()}
    run.worse = 0 if accuracy > run.best_accuracy else run.worse + 1
    run.best_accuracy = max(accuracy, run.best_accuracy)
    return {"validation_loss": loss, "validation_auc": area, "validation_accuracy": accuracy}


def _next_stage(run: Run, recipe: ClassifyRecipe, kept: Sequence[ClassedSlice]) -> None:
    run.stage += 1
    run.best_accuracy, run.worse = -1.0, 0
    run.ends_at = run.step + _steps_of_a_stage(recipe, kept)
    if not run.over:
        run.optimizer = unfreeze(run.network, recipe, run.stage)


def _let_learn(run: Run) -> None:
    """Switch to training, but for the statistics of frozen blocks."""
    run.network.train()
    frozen = run.network.blocks[: len(run.network.blocks) - run.stage]
    for name in (name for block in frozen for name in block):
        run.network.backbone.get_submodule(name).eval()


def _steps_of_an_epoch(recipe: ClassifyRecipe, kept: Sequence[ClassedSlice]) -> int:
    return math.ceil(len(kept) / recipe.batch)


def _steps_of_a_stage(recipe: ClassifyRecipe, kept: Sequence[ClassedSlice]) -> int:
    return recipe.epochs * _steps_of_an_epoch(recipe, kept)


def _restore(run: Run, recipe: ClassifyRecipe, state: dict[str, Any]) -> None:
    run.step, run.stage, run.ends_at = state["step"], state["stage"], state["ends_at"]
    run.network.load_state_dict(state["network"])
    if not run.over:
        run.optimizer = unfreeze(run.network, recipe, run.stage)
        run.optimizer.load_state_dict(state["optimizer"])
    run.best, run.best_accuracy, run.worse = state["best"], state["best_accuracy"], state["worse"]
    area, loss = state["best_score"]
    run.best_score = (float(area), float(loss))

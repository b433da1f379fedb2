"""Batches drawn ahead of the step that uses them.

Every sample is a function of the run's seed, its step and its place in the batch. So it does not
matter which process draws it, or when: a resumed run, a run with helpers and a run on several
devices see the same samples.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from typing_extensions import override

T = TypeVar("T")
B = TypeVar("B")


def generator_of(seed: int, step: int, place: int) -> np.random.Generator:
    """Return the generator of one sample."""
    return np.random.default_rng((seed, step, place))


def draw_batches(
    draw: Callable[[int, int], T],
    collate: Callable[[list[T]], B],
    steps: range,
    places: Sequence[int],
    helpers: int,
) -> Iterator[B]:
    """Yield one batch for each step.

    Parameters
    ----------
    draw : callable
        Step and place to a sample.
    collate : callable
    steps : range
    places : sequence of int
        Of the samples of a batch that this process needs.
    helpers : int
        Processes that draw ahead; with 0 this process draws when a batch is needed.
    """
    loader: DataLoader[T] = DataLoader(
        _Draws(draw),
        batch_sampler=_Keys(steps, places),
        collate_fn=collate,
        num_workers=helpers,
        worker_init_fn=_calm if helpers else None,
        prefetch_factor=2 if helpers else None,
    )
    yield from loader


class _Draws(Dataset[T], Generic[T]):
    def __init__(self, draw: Callable[[int, int], T]) -> None:
        self.draw = draw

    @override
    def __getitem__(self, key: Any) -> T:
        return self.draw(*key)


class _Keys(Sampler[list[Any]]):
    def __init__(self, steps: range, places: Sequence[int]) -> None:
        self.keys = [[(step, place) for place in places] for step in steps]

    @override
    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def _calm(_helper: int) -> None:
    """Keep helpers to one thread each; the processors belong to the network."""
    torch.set_num_threads(1)


def stacked(samples: Iterable[Sequence[torch.Tensor]]) -> tuple[torch.Tensor, ...]:
    """Stack samples that are tuples of tensors of one shape."""
    return tuple(torch.stack(parts) for parts in zip(*samples, strict=True))

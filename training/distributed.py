"""One to many processes that train one network, as ``torchrun`` starts them.

Without ``torchrun`` there is one process and nothing here changes anything. What is averaged over
the processes is what one process would compute over the whole batch, so losses are the same.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Workers:
    """One process among those of a run.

    Parameters
    ----------
    rank, count : int
    device : torch.device
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    def share(self, batch: int) -> list[int]:
        """Places of a batch that this process works on.

        Raises
        ------
        ValueError
            If the batch cannot be dealt out evenly; means over processes would be wrong then.
        """
        if batch % self.count:
            raise ValueError(f"a batch of {batch} cannot be dealt to {self.count} processes")
        return list(range(self.rank, batch, self.count))


@contextmanager
def join_workers(device: torch.device) -> Iterator[Workers]:
    """Join the other processes, if ``torchrun`` started some.

    Parameters
    ----------
    device : torch.device
        Of a single process; with several on CUDA each takes the device of its local rank.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Workers(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Workers(dist.get_rank(), count, device)
    finally:
        dist.destroy_process_group()


def parallel(module: nn.Module, workers: Workers) -> nn.Module:
    """Wrap a module so that gradients are averaged over the processes."""
    if workers.count == 1:
        return module
    # Every process computes the same running means itself.
    return DistributedDataParallel(module, broadcast_buffers=False)


def mean_over_workers(value: Tensor, workers: Workers) -> Tensor:
    """Mean of a tensor over the processes; gradients do not flow through it."""
    if workers.count == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / workers.count


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch norm whose statistics are those of the batches of all processes together.

    PyTorch's own works on CUDA only. The number of rows must be the same in each process.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Normalise (rows, channels)."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        count = dist.get_world_size()
        rows = input.float()
        mean: Tensor = all_reduce(rows.mean(0)) / count  # type: ignore[no-untyped-call] # torch
        spread = ((rows - mean) ** 2).mean(0)
        variance: Tensor = all_reduce(spread) / count  # type: ignore[no-untyped-call] # torch
        self._follow(mean.detach(), variance.detach(), len(rows) * count)
        normalised = (rows - mean) * torch.rsqrt(variance + self.eps)
        scaled: Tensor = normalised * self.weight + self.bias
        return scaled

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * rows / max(1, rows - 1), momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1

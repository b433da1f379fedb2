"""Limit what a process of the node may take and leave behind."""

import resource
from typing import Final

_MIB: Final = 2**20


def forbid_core_dumps() -> None:
    """Leave no image of the memory on disk after a crash: it would show patients."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_memory(limit_mib: int) -> None:
    """Let this process have so much memory and no more; beyond it, ``MemoryError`` is raised.

    What it writes to counts, not what it reserves: a GPU's driver reserves far more than it uses.

    Parameters
    ----------
    limit_mib : int
        0 for no limit.
    """
    if limit_mib == 0:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_mib * _MIB, hard))

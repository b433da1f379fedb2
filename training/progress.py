"""Progress bars with the time left, on a terminal only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


class Advance(Protocol):
    """Moves a bar to a step and writes a few numbers beside it."""

    def __call__(self, step: int, **numbers: float) -> None:
        """Show ``step`` and ``numbers``."""


def track(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield items with a bar that shows how many are left and how long they will take."""
    with bar(what, len(items), 0) as advance:
        for done, item in enumerate(items):
            yield item
            advance(done + 1)


@contextmanager
def bar(what: str, total: int, start: int) -> Iterator[Advance]:
    """Show a bar while the context lasts; without a terminal nothing is printed.

    Parameters
    ----------
    what : str
    total, start : int
        Steps in all, and where a resumed run goes on.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total, completed=start, numbers="")

        def advance(step: int, **numbers: float) -> None:
            shown = " ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            progress.update(task, completed=step, numbers=shown)

        yield advance

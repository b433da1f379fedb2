"""What a run leaves behind besides its checkpoint: how it was made, and how it went.

``run.json``
    Recipe, version and commit of the code, fingerprint of the data, seed, packages, device.
``metrics.jsonl``
    One line of numbers for each logged step.
``tensorboard/``
    The same numbers, and the pictures.
``curves.png``, ``pictures/``
    For those without TensorBoard.
"""

import json
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from training.store import write_text

_PACKAGES: Final = ("psoas", "torch", "monai", "numpy", "SimpleITK")


class RunFolder:
    """Writes the records of a run; of several processes the first one does.

    Parameters
    ----------
    path : Path
    writes : bool
        ``False`` makes every method do nothing.
    """

    def __init__(self, path: Path, *, writes: bool) -> None:
        self.path = path
        self.writes = writes
        self._board: Any = None

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write ``run.json``; an earlier beginning of the same run stays in it."""
        if not self.writes:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / "run.json"
        begun = json.loads(path.read_text())["begun"] if path.exists() else []
        begun.append(datetime.now(UTC).isoformat(timespec="seconds"))
        content = {**code_version(), **facts, "begun": begun}
        write_text(path, json.dumps(content, indent=1, default=str) + "\n")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Record the numbers of a step."""
        if not self.writes:
            return
        plain = {name: float(value) for name, value in numbers.items()}
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **plain}) + "\n")
        for name, value in plain.items():
            self._writer().add_scalar(name, value, step)

    def picture(self, name: str, step: int, pixels: NDArray[np.uint8]) -> None:
        """Record a picture, shape (rows, columns, 3)."""
        if not self.writes:
            return
        folder = self.path / "pictures"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{name}_{step:07d}.png")
        self._writer().add_image(name, pixels, step, dataformats="HWC")

    def finish(self) -> None:
        """Draw the curves and close what is open."""
        if self.writes:
            draw_curves(self.path)
        if self._board is not None:
            self._board.close()
            self._board = None

    def _writer(self) -> Any:  # noqa: ANN401 - TensorBoard is imported when it is needed
        if self._board is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._board = SummaryWriter(self.path / "tensorboard")
        return self._board


@contextmanager
def recording(path: Path, facts: Mapping[str, Any], *, writes: bool) -> Iterator[RunFolder]:
    """Open a run folder, and finish it however the run ends."""
    folder = RunFolder(path, writes=writes)
    folder.begin(facts)
    try:
        yield folder
    finally:
        folder.finish()


def code_version() -> dict[str, Any]:
    """Say which code runs on what, without the name of the machine."""
    return {
        "code": {name: version(name) for name in _PACKAGES} | {"commit": _commit()},
        "python": platform.python_version(),
        "device": (
            torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
        ),
        "command": " ".join(Path(part).name for part in sys.argv),
    }


def _commit() -> str:
    """Commit of the checkout, marked when files differ from it; empty without one."""
    git = shutil.which("git")
    if git is None:
        return ""
    here = Path(__file__).parent
    command = [git, "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else ""


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory that the run has held: of the device, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read the numbers of a run; of a step that was done twice the later ones count."""
    file = path / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    by_step: dict[int, dict[str, float]] = {}
    for line in lines:
        row = json.loads(line)
        by_step[row["step"]] = by_step.get(row["step"], {}) | row
    return [by_step[step] for step in sorted(by_step)]


def draw_curves(path: Path) -> None:
    """Draw every number of a run over its steps into ``curves.png``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_metrics(path)
    names = sorted({name for row in rows for name in row} - {"step"})
    if not names:
        return
    figure = Figure(figsize=(8.0, 2.0 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        here = [row for row in rows if name in row]
        axes.plot([row["step"] for row in here], [row[name] for row in here])
        axes.set_ylabel(name)
    panels[-1].set_xlabel("step")
    figure.savefig(path / "curves.png", dpi=90)


def grey_rgb(panels: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Lay images with values 0 to 1, shape (R, A), side by side as a radiologist sees them."""
    # R runs to the patient's right, which is the viewer's left; A runs upwards.
    turned = [np.clip(panel, 0, 1).T[::-1, ::-1] for panel in panels]
    grey = (255 * np.concatenate(turned, axis=1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)

"""Cross-validation as in Table 3 of arXiv 2508.17275: so many folds, two columns, one command."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import structlog
import torch

from training.crossvalidation import held_out, run_folds
from training.data import LabelledSlice
from training.evaluate import SliceResult, measure_slice
from training.export import load_checkpoint
from training.progress import track
from training.split import Person, folds
from training.store import write_text
from training.validation import VALIDATION_THRESHOLD

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FoldRow:
    """One line of the table.

    Parameters
    ----------
    fold : str
    patients, slices : int
        Left out.
    dice : float
        Mean over the patients left out.
    area_difference_percent : float
        Mean absolute difference of the area, over the patients left out.
    """

    fold: str
    patients: int
    slices: int
    dice: float
    area_difference_percent: float


def train_table(
    people: Sequence[Person], count: int, seed: int, arguments: Sequence[str], out: Path, jobs: int
) -> dict[str, tuple[str, ...]]:
    """Train one run for each fold; the next fold is its validation.

    A fold that was interrupted goes on from its last checkpoint.

    Parameters
    ----------
    people : sequence of Person
    count : int
        Of folds.
    seed : int
        Of the split.
    arguments : sequence of str
        Of ``python -m training finetune`` besides those that differ between folds.
    out : Path
        The run of each fold is a folder in it; its log lies beside.
    jobs : int
        Processes at a time.

    Returns
    -------
    dict
        Fold to the patients left out.

    Raises
    ------
    subprocess.CalledProcessError
        When a fold fails.
    """
    dealt = folds(people, count, seed)
    run_folds(fold_words(dealt, ["finetune", *arguments]), out, jobs)
    return dealt


def fold_words(dealt: Mapping[str, Sequence[str]], words: Sequence[str]) -> dict[str, list[str]]:
    """Return the words of each fold's run; from three folds on, the next one is its validation."""
    names = list(dealt)
    runs = {}
    for place, name in enumerate(names):
        runs[name] = [*words, *held_out(dealt[name])]
        if len(names) > 2:
            judges = dealt[names[(place + 1) % len(names)]]
            runs[name] += [word for patient in judges for word in ("--validate-on", patient)]
    return runs


def measure_table(
    dealt: Mapping[str, Sequence[str]], slices: Sequence[LabelledSlice], out: Path
) -> list[FoldRow]:
    """Measure every patient with the run that did not see that patient, and write the table.

    Returns
    -------
    list of FoldRow
        Also in ``table.md`` and ``table.json``; the slices in ``slices.json``.
    """
    rows, measured = [], []
    for fold, patients in track(list(dealt.items()), "measuring"):
        model = load_checkpoint(out / fold / "checkpoint.pt", torch.device("cpu"))
        results = [
            measure_slice(model, one, [VALIDATION_THRESHOLD])[0]
            for one in slices
            if one.patient in patients
        ]
        rows.append(_row(fold, results))
        measured += [{"fold": fold, **asdict(result)} for result in results]
    write_text(out / "table.json", json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    write_text(out / "slices.json", json.dumps(measured, indent=1) + "\n")
    write_text(out / "table.md", "\n".join(table_lines(rows)) + "\n")
    return rows


def table_lines(rows: Sequence[FoldRow]) -> list[str]:
    """Return the table in Markdown, the mean over folds last."""
    lines = ["| fold | patients | Dice | average area difference |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row.fold} | {row.patients} | {row.dice:.3f} | {row.area_difference_percent:.2f} % |"
        for row in rows
    ]
    dice, difference = (
        np.array([getattr(row, name) for row in rows])
        for name in ("dice", "area_difference_percent")
    )
    lines.append(
        f"| mean ± SD | {sum(row.patients for row in rows)} | {dice.mean():.3f} ± {dice.std():.3f} "
        f"| {difference.mean():.2f} ± {difference.std():.2f} % |"
    )
    return lines


def _row(fold: str, results: Sequence[SliceResult]) -> FoldRow:
    patients = sorted({result.patient for result in results})
    groups = [[r for r in results if r.patient == patient] for patient in patients]
    return FoldRow(
        fold,
        len(patients),
        len(results),
        float(np.mean([np.mean([r.dice for r in group]) for group in groups])),
        float(np.mean([np.mean([abs(r.error_percent) for r in group]) for group in groups])),
    )

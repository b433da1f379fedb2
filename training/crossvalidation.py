"""Leave patients out: each is measured with the run that did not see any image of that patient."""

import math
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import structlog
import torch

from pipeline.interval import expected_error_cm2
from pipeline.weights import LoadedModel, load_model
from training import checkpoint
from training.data import LabelledSlice
from training.evaluate import SliceResult, measure_slice
from training.export import ModelDescription, export
from training.progress import bar

log = structlog.get_logger(__name__)

THRESHOLDS = (0.35, 0.4, 0.45, 0.5, 0.55)
"""Probabilities that a threshold is chosen from."""


def train_folds(
    groups: Sequence[Sequence[str]],
    arguments: Sequence[str],
    out: Path,
    jobs: int,
    further: Path | None = None,
) -> list[Path]:
    """Run ``finetune`` once for each group of patients, each in a process of its own.

    A fold that was interrupted goes on from its last checkpoint.

    Parameters
    ----------
    groups : sequence of sequence of str
        Patients that one run leaves out; groups of one leave one patient out at a time.
    arguments : sequence of str
        Of ``python -m training finetune`` besides ``--hold-out``, ``--out`` and ``--resume``.
    out : Path
        The run of each group is a folder in it; its log lies beside.
    jobs : int
        Processes at a time.
    further : Path or None
        Folder of folds of the same groups; each run goes on from the one of its group.

    Returns
    -------
    list of Path
        Folders of the runs.

    Raises
    ------
    subprocess.CalledProcessError
        When a fold fails.
    """
    runs = {"+".join(group): ["finetune", *arguments, *held_out(group)] for group in groups}
    if further is not None:
        runs = {name: [*words, "--weights", str(further / name)] for name, words in runs.items()}
    return run_folds(runs, out, jobs)


def run_folds(runs: Mapping[str, Sequence[str]], out: Path, jobs: int) -> list[Path]:
    """Run a subcommand once for each fold, each in a process of its own, with a bar.

    Parameters
    ----------
    runs : Mapping
        Name of a fold to the words after ``python -m training``, but for ``--out`` and
        ``--resume``.
    out : Path
        The run of each fold is a folder in it; its log lies beside.
    jobs : int
        Processes at a time.

    Returns
    -------
    list of Path
        Folders of the runs.

    Raises
    ------
    subprocess.CalledProcessError
        When a fold fails.
    """
    out.mkdir(parents=True, exist_ok=True)

    def run(name: str) -> Path:
        folder = out / name
        command = [sys.executable, "-m", "training", *runs[name], "--out", str(folder), "--resume"]
        with (out / f"{name}.log").open("ab") as output:
            subprocess.run(command, check=True, stdout=output, stderr=output)  # noqa: S603 - ours
        log.info("fold trained", fold=name)
        return folder

    with ThreadPoolExecutor(jobs) as pool, bar("folds", len(runs), 0) as advance:
        folders = []
        for folder in pool.map(run, runs):
            folders.append(folder)
            advance(len(folders))
    return folders


def held_out(patients: Sequence[str]) -> list[str]:
    """Return the words that leave patients out."""
    return [word for patient in patients for word in ("--hold-out", patient)]


def group_patients(slices: Sequence[LabelledSlice], count: int) -> list[tuple[str, ...]]:
    """Split patients into ``count`` groups, those with many slices apart from each other.

    Parameters
    ----------
    slices : sequence of LabelledSlice
    count : int
        At most the number of patients; more is the same as that.

    Returns
    -------
    list of tuple of str
        Groups of at least one patient.
    """
    sizes = Counter(labelled.patient for labelled in slices)
    ordered = sorted(sizes, key=lambda patient: (-sizes[patient], patient))
    count = min(count, len(ordered))
    return [tuple(sorted(ordered[start::count])) for start in range(count)]


def measure_folds(
    folder: Path, slices: Sequence[LabelledSlice], thresholds: Sequence[float] = THRESHOLDS
) -> dict[float, list[SliceResult]]:
    """Measure every slice of each patient with the run that did not see that patient.

    Parameters
    ----------
    folder : Path
        As ``train_folds`` leaves it; patients that no run left out are not measured.
    slices : sequence of LabelledSlice
    thresholds : sequence of float

    Returns
    -------
    dict
        Threshold to the results of all slices.
    """
    results: dict[float, list[SliceResult]] = {threshold: [] for threshold in thresholds}
    for path in sorted(folder.glob("*/checkpoint.pt")):
        held_out = checkpoint.load(path)["recipe"]["held_out"]
        model = _exported(path)
        for labelled in slices:
            if labelled.patient in held_out:
                rows = measure_slice(model, labelled, thresholds)
                for threshold, row in zip(thresholds, rows, strict=True):
                    results[threshold].append(row)
        log.info("fold measured", held_out=held_out)
    measured = {row.patient for row in results[thresholds[0]]}
    for patient in sorted({labelled.patient for labelled in slices} - measured):
        log.warning("no run left this patient out", patient=patient)
    return results


def choose_thresholds(results: Mapping[float, Sequence[SliceResult]]) -> dict[str, float]:
    """Choose the threshold of each patient by the bias of the other patients.

    Parameters
    ----------
    results : Mapping
        As from ``measure_folds``.

    Returns
    -------
    dict
        Patient to threshold; the empty name stands for the choice by all patients.
    """
    patients = sorted({row.patient for row in next(iter(results.values()))})
    return {
        left_out: min(results, key=lambda t: abs(_bias_percent(results[t], left_out)))
        for left_out in ["", *patients]
    }


def nested(
    results: Mapping[float, Sequence[SliceResult]], chosen: Mapping[str, float]
) -> list[SliceResult]:
    """Results of each patient at the threshold that the other patients chose."""
    return [
        row
        for threshold, rows in results.items()
        for row in rows
        if chosen[row.patient] == threshold
    ]


def conformal_scores(results: Sequence[SliceResult], middle: Mapping[str, int]) -> list[float]:
    """Error of each patient divided by its expected size, one slice a patient.

    Slices of one patient resemble each other; one slice each keeps the scores exchangeable.

    Parameters
    ----------
    results : sequence of SliceResult
        Of slices whose patient the model had not seen.
    middle : Mapping
        Case to the slice nearest to the middle of L3; other cases give their first slice.

    Returns
    -------
    list of float
        Ascending, one for each patient: the largest of the patient's cases.
    """
    scores: dict[str, float] = {}
    for case in {row.case for row in results}:
        rows = [row for row in results if row.case == case]
        row = min(rows, key=lambda r: abs(r.slice_index - middle.get(case, r.slice_index)))
        expected = expected_error_cm2(row.measured_cm2, (row.spread_cm2,))
        score = abs(row.measured_cm2 - row.reference_cm2) / expected
        scores[row.patient] = max(score, scores.get(row.patient, 0.0))
    return sorted(scores.values())


def _bias_percent(rows: Sequence[SliceResult], left_out: str) -> float:
    """Mean over patients of the mean signed error of the area."""
    errors: dict[str, list[float]] = {}
    for row in rows:
        if row.patient != left_out:
            errors.setdefault(row.patient, []).append(row.error_percent)
    return float(np.mean([np.mean(values) for values in errors.values()])) if errors else math.inf


def _exported(path: Path) -> LoadedModel:
    """Load a checkpoint as the node would load what is exported from it."""
    with tempfile.TemporaryDirectory() as folder:
        export([path], ModelDescription("fold", "0", THRESHOLDS[0]), Path(folder))
        return load_model(Path(folder), torch.device("cpu"))

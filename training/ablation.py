"""Ablation of pre-training: the same folds with and without it, compared patient by patient.

The second experiment that arXiv 2508.17275 leaves open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.evaluate import SliceResult

PRETRAINED: Final = "pretrained"
SCRATCH: Final = "scratch"
_DRAWS: Final = 2000


@dataclass(frozen=True, slots=True)
class Paired:
    """A quantity with and without pre-training, means over patients.

    Parameters
    ----------
    name : str
    pretrained, scratch : float
    difference, low, high : float
        Pre-trained minus scratch, with its 95 % bootstrap interval over patients.
    better : int
        Patients for whom pre-training was better.
    patients : int
    """

    name: str
    pretrained: float
    scratch: float
    difference: float
    low: float
    high: float
    better: int
    patients: int


def compare(pretrained: Sequence[SliceResult], scratch: Sequence[SliceResult]) -> list[Paired]:
    """Compare two ways of training on the patients that both measured.

    Parameters
    ----------
    pretrained, scratch : sequence of SliceResult
        Of slices whose patient the run had not seen.

    Raises
    ------
    ValueError
        If they share no patient.
    """
    patients = sorted({r.patient for r in pretrained} & {r.patient for r in scratch})
    if not patients:
        raise ValueError("the two ways of training share no patient that was left out")
    quantities = {"Dice": (_dice, 1.0), "absolute error of the area, %": (_error, -1.0)}
    found = []
    for name, (of, good) in quantities.items():
        first, second = (
            np.array([np.mean([of(r) for r in rows if r.patient == p]) for p in patients])
            for rows in (pretrained, scratch)
        )
        gain = first - second
        draws = np.random.default_rng(1).integers(len(gain), size=(_DRAWS, len(gain)))
        low, high = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
        found.append(
            Paired(
                name, float(first.mean()), float(second.mean()), float(gain.mean()), float(low),
                float(high), int((good * gain > 0).sum()), len(patients),
            )
        )  # fmt: skip
    return found


def ablation_lines(found: Sequence[Paired], counts: Mapping[str, int]) -> list[str]:
    """Return the comparison in Markdown, and say in a sentence what it shows.

    Parameters
    ----------
    found : sequence of Paired
    counts : Mapping
        Way of training to its number of slices.
    """
    lines = [
        f"Patients that no run had seen; {counts[PRETRAINED]} and {counts[SCRATCH]} slices.",
        "",
        "| mean over patients | pre-trained | from scratch | difference (95 %) | better for |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one.name} | {one.pretrained:.3f} | {one.scratch:.3f} | {one.difference:+.3f} "
        f"({one.low:+.3f} to {one.high:+.3f}) | {one.better} of {one.patients} patients |"
        for one in found
    ]
    settled = [one.name for one in found if one.low * one.high > 0]
    said = f"settled for: {', '.join(settled)}" if settled else "not settled by these patients"
    return [*lines, "", f"Whether pre-training makes a difference is {said}."]


def _dice(row: SliceResult) -> float:
    return row.dice


def _error(row: SliceResult) -> float:
    return abs(row.error_percent)

"""Parts of a data set that share no patient and resemble each other in sex and label."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.cutoffs import DEFAULT_PROFILE, find_profile
from pipeline.types import Measure, Sex, Subject
from training.store import write_text

PAPER_SHARES: Final = {"train": 47 / 79, "validation": 16 / 79, "test": 16 / 79}
"""Shares of arXiv 2508.17275: 47, 16 and 16 of 79 scans."""


@dataclass(frozen=True, slots=True)
class Person:
    """What a split needs to know of a patient.

    Parameters
    ----------
    patient : str
        Pseudonym.
    sex : str
        ``"M"``, ``"F"`` or empty.
    muscle_cm2 : float
        Mean of the labelled cases; 0 when unknown.
    """

    patient: str
    sex: str = ""
    muscle_cm2: float = 0.0

    @property
    def stratum(self) -> str:
        """Whether the labelled area lies below the cut-off of the sex, and the sex."""
        return f"{'low' if self.low else 'not low'} {self.sex or '?'}"

    @property
    def low(self) -> bool | None:
        """Whether the area lies below the cut-off; ``None`` when sex or area is not known."""
        if not self.sex or self.muscle_cm2 <= 0:
            return None
        return self.muscle_cm2 < cutoff_cm2(Sex(self.sex))


def cutoff_cm2(sex: Sex) -> float:
    """Cut-off of the area for adults of a sex, in the default profile."""
    profile = find_profile(DEFAULT_PROFILE, frozenset({Measure.AREA}))
    return profile.rows_for(Subject(sex=sex), sex)[0].below


def read_people(case_list: Path) -> list[Person]:
    """Read the patients of a case list; sex and area are optional in it."""
    cases: dict[str, list[dict[str, Any]]] = {}
    for case in tomllib.loads(case_list.read_text())["case"]:
        cases.setdefault(case["patient"], []).append(case)
    return [
        Person(
            patient,
            next((c["sex"] for c in entries if c.get("sex")), ""),
            float(np.mean([c.get("muscle_cm2", 0.0) for c in entries])),
        )
        for patient, entries in cases.items()
    ]


def folds(people: Sequence[Person], count: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Deal patients into folds so that every fold gets its share of every stratum.

    Parameters
    ----------
    people : sequence of Person
    count : int
        At most as many as there are patients.
    seed : int

    Returns
    -------
    dict
        ``fold_01`` ... to patients.

    Raises
    ------
    ValueError
        If there are fewer patients than folds.
    """
    if not 2 <= count <= len(people):
        raise ValueError(f"{len(people)} patients cannot be split into {count} folds")
    dealt: dict[str, list[str]] = {f"fold_{i + 1:02d}": [] for i in range(count)}
    names = list(dealt)
    for place, patient in enumerate(_shuffled(people, seed)):
        dealt[names[place % count]].append(patient)
    return {name: tuple(sorted(patients)) for name, patients in dealt.items()}


def parts(
    people: Sequence[Person], shares: Mapping[str, float], seed: int
) -> dict[str, tuple[str, ...]]:
    """Split patients into parts of given shares, each stratum alike.

    Parameters
    ----------
    people : sequence of Person
    shares : Mapping
        Name of a part to its share; they sum to 1.
    seed : int
    """
    wanted = {name: share / sum(shares.values()) for name, share in shares.items()}
    filled: dict[str, list[str]] = {name: [] for name in shares}
    for place, patient in enumerate(_shuffled(people, seed)):
        # The part that is furthest behind its share takes the next one.
        behind = {name: wanted[name] * (place + 1) - len(filled[name]) for name in shares}
        filled[max(behind, key=lambda name: behind[name])].append(patient)
    return {name: tuple(sorted(patients)) for name, patients in filled.items()}


def write_split(path: Path, split: Mapping[str, Sequence[str]], seed: int) -> None:
    """Write parts as JSON, for ``finetune --split``."""
    content = {"seed": seed, "parts": {name: list(patients) for name, patients in split.items()}}
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_split(path: Path) -> dict[str, tuple[str, ...]]:
    """Read what ``write_split`` wrote."""
    content = json.loads(path.read_text())
    return {name: tuple(patients) for name, patients in content["parts"].items()}


def _shuffled(people: Sequence[Person], seed: int) -> list[str]:
    """Patients in an order in which those of one stratum follow each other, shuffled within."""
    generator = np.random.default_rng(seed)
    ordered = sorted(people, key=lambda one: one.patient)
    shuffled = [ordered[i] for i in generator.permutation(len(ordered))]
    return [one.patient for one in sorted(shuffled, key=lambda one: one.stratum)]

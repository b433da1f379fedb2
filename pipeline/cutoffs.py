"""Cut-off profiles: who is compared with which number, as data with its source."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.errors import CutoffProfileError
from pipeline.types import Cutoff, Measure, Sex, Subject

DEFAULT_PROFILE: Final = "paper"
_SHIPPED: Final = Path(__file__).with_name("cutoffs.toml")


@dataclass(frozen=True, slots=True)
class CutoffRow:
    """One number and whom it applies to.

    Parameters
    ----------
    sex : Sex
    below : float
        A smaller value is low; in the unit of the profile's measure.
    age_years, bmi_kg_m2 : tuple[float, float] or None
        From the first to just under the second; ``None`` for everybody.
    """

    sex: Sex
    below: float
    age_years: tuple[float, float] | None = None
    bmi_kg_m2: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class CutoffProfile:
    """Cut-offs of one source.

    Parameters
    ----------
    name : str
    measure : Measure
    rows : tuple of CutoffRow
    citation, population : str
    """

    name: str
    measure: Measure
    rows: tuple[CutoffRow, ...]
    citation: str
    population: str

    def cutoff(self, row: CutoffRow) -> Cutoff:
        """Return ``row`` with what a reader must know of it."""
        return Cutoff(self.measure, row.below, self.name, self.citation, self.population)

    def rows_for(self, subject: Subject, sex: Sex) -> tuple[CutoffRow, ...]:
        """Rows of one sex that the subject's age and body mass index do not rule out.

        More than one when the profile asks for something that is not known of the subject.
        """
        bmi_kg_m2 = body_mass_index_kg_m2(subject)
        return tuple(
            row
            for row in self.rows
            if row.sex is sex
            and _within(subject.age_years, row.age_years)
            and _within(bmi_kg_m2, row.bmi_kg_m2)
        )


def body_mass_index_kg_m2(subject: Subject) -> float | None:
    """Weight by height squared; ``None`` when either is not known."""
    if subject.height_m is None or subject.weight_kg is None:
        return None
    return subject.weight_kg / subject.height_m**2


def find_profile(name: str, measures: frozenset[Measure], own: Path | None = None) -> CutoffProfile:
    """Find a profile by name, among the shipped ones and those of a site's own file.

    Parameters
    ----------
    name : str
    measures : frozenset of Measure
        What the caller can compare.
    own : Path or None
        A TOML file in the form of ``cutoffs.toml``.

    Raises
    ------
    CutoffProfileError
        If there is no such profile, it is for another measure, or the file is malformed.
    """
    profiles = read_profiles(_SHIPPED) | (read_profiles(own) if own else {})
    if name not in profiles:
        raise CutoffProfileError(f"no cut-off profile {name!r}, known are {', '.join(profiles)}")
    profile = profiles[name]
    if profile.measure not in measures:
        wanted = " or ".join(sorted(measures))
        raise CutoffProfileError(f"cut-off profile {name!r} is for {profile.measure}, not {wanted}")
    return profile


def read_profiles(path: Path) -> dict[str, CutoffProfile]:
    """Read every profile of a TOML file.

    Raises
    ------
    CutoffProfileError
        If the file cannot be read or a profile lacks something.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CutoffProfileError(f"{path.name} cannot be read as cut-offs: {error}") from error
    return {name: _profile(name, values) for name, values in content.items()}


def _profile(name: str, values: Mapping[str, Any]) -> CutoffProfile:
    try:
        rows = tuple(_row(row) for row in values["cutoffs"])
        profile = CutoffProfile(
            name, Measure(values["measure"]), rows, values["citation"], values["population"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CutoffProfileError(f"cut-off profile {name!r} is malformed: {error!r}") from error
    if {row.sex for row in rows} != set(Sex):
        raise CutoffProfileError(f"cut-off profile {name!r} must have rows for M and F")
    return profile


def _row(values: Mapping[str, Any]) -> CutoffRow:
    ranges = {key: _range(values[key]) for key in ("age_years", "bmi_kg_m2") if key in values}
    return CutoffRow(Sex(values["sex"]), float(values["below"]), **ranges)


def _range(values: Any) -> tuple[float, float]:  # noqa: ANN401 - checked here
    low, high = map(float, values)
    if low >= high:
        raise ValueError(f"range {low:g} to {high:g} is empty")
    return low, high


def _within(value: float | None, limits: tuple[float, float] | None) -> bool:
    return value is None or limits is None or limits[0] <= value < limits[1]

"""The rules of a site: frozen, from one TOML file, an unknown key is an error."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydicom.datadict import tag_for_keyword
from pydicom.tag import Tag

from dicom_node.routes import Choice, Priority

_PATIENT_GROUP = 0x0010
_ALLOWED_OF_PATIENT = frozenset({"PatientSex", "PatientAge", "PatientSize", "PatientWeight"})
_IDENTIFYING = frozenset({"AccessionNumber", "StudyID", "ReferringPhysicianName"})


class Geometry(StrEnum):
    """What a condition may ask of the slices instead of an attribute."""

    SLICES = "slices"
    """Different positions of axial slices."""
    SLICE_SPACING_MM = "slice_spacing_mm"
    """Median distance of neighbouring slices."""
    SLICE_THICKNESS_MM = "slice_thickness_mm"
    """Slice Thickness (0018,0050), the spacing where it is absent."""
    COVERAGE_MM = "coverage_mm"
    """From the lowest to the highest slice."""
    PIXEL_MM = "pixel_mm"
    """Distance of rows."""
    SOFT_TISSUE = "soft_tissue"
    """1 for a soft-tissue kernel, 0 for a sharp one, 0.5 for one that is not known."""


class Action(StrEnum):
    """What a rule does with the series that it fits."""

    ANALYSE = "analyse"
    SKIP = "skip"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Condition(_Part):
    """One thing that must hold; text is compared without regard to case."""

    attribute: str | None = None
    """DICOM keyword, such as BodyPartExamined; the commonest value among the axial slices."""
    geometry: Geometry | None = None
    """Instead of an attribute."""
    equals: str | float | None = None
    """The value, or one of its values, is this."""
    one_of: tuple[str | float, ...] = ()
    """The value, or one of its values, is among these."""
    contains: str | None = None
    """This stands somewhere in the value."""
    matches: str | None = None
    """This regular expression is found in the value."""
    at_least: float | None = None
    """Lower bound, itself included."""
    at_most: float | None = None
    """Upper bound, itself included."""
    present: bool | None = None
    """Whether the attribute has a value at all."""
    negate: Annotated[bool, Field(alias="not")] = False
    """The opposite must hold."""

    @field_validator("attribute")
    @classmethod
    def _names_no_patient(cls, keyword: str | None) -> str | None:
        if keyword is None:
            return None
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword} is not the keyword of a DICOM attribute")
        of_patient = Tag(tag).group == _PATIENT_GROUP and keyword not in _ALLOWED_OF_PATIENT
        if of_patient or keyword in _IDENTIFYING:
            raise ValueError(f"{keyword} identifies a patient, so no rule may depend on it")
        return keyword

    @field_validator("matches")
    @classmethod
    def _is_an_expression(cls, expression: str | None) -> str | None:
        if expression is not None:
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
        return expression

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        if (self.attribute is None) == (self.geometry is None):
            raise ValueError("name either an attribute or a geometry")
        asked = self.model_fields_set - {"attribute", "geometry", "negate"}
        if not asked:
            raise ValueError(
                "say what must hold: equals, one_of, contains, matches, at_least, at_most, present"
            )
        if len(asked) > 1 and not asked <= {"at_least", "at_most"}:
            raise ValueError("one condition asks one thing; write two conditions")
        return self

    @model_validator(mode="after")
    def _geometry_is_a_number(self) -> Self:
        textual = self.contains is not None or self.matches is not None
        if self.geometry is not None and (textual or self.present is not None):
            raise ValueError(f"{self.geometry.value} is a number: ask equals, at_least, at_most")
        return self


class Rule(_Part):
    """What happens to the series that it fits; the first rule that fits decides."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,47}$")]
    """For the history and the command line."""
    sources: tuple[str, ...] = ()
    """Calling AE titles, ``*`` stands for anything; every source when empty."""
    when: tuple[Condition, ...] = ()
    """All of these must hold."""
    action: Action = Action.ANALYSE
    """analyse or skip."""
    because: str = ""
    """Sentence for what this rule skips."""
    choose: Choice = Choice.EVERY
    """every series, or best: only the best one of each study that this rule fits."""
    priority: Priority = Priority.ROUTINE
    """stat, routine or background."""
    destinations: tuple[str, ...] | None = None
    """Names of destinations that get the results; all of them when absent."""

    @field_validator("choose")
    @classmethod
    def _is_a_choice(cls, choice: Choice) -> Choice:
        if choice is Choice.CHOSEN:
            raise ValueError("choose is every or best")
        return choice

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.action is Action.SKIP and not self.because:
            raise ValueError("a rule that skips says why in `because`")
        return self


class StudyRules(_Part):
    """How the best series of a study is waited for."""

    quiet_s: Annotated[float, Field(ge=0)] = 120.0
    """The study counts as complete this long after its last image, whatever the series."""


class QueueRules(_Part):
    """Who is served first: the series with the earliest time of completion less its head start.

    A series waits at most its class's disadvantage longer than it would alone, so nothing
    starves.
    """

    head_start_s: Mapping[Priority, float] = {
        Priority.STAT: 7200.0,
        Priority.ROUTINE: 0.0,
        Priority.BACKGROUND: -86400.0,
    }
    """For each priority."""


class RuleBook(_Part):
    """A whole rule file."""

    rules: tuple[Rule, ...] = (Rule(name="default"),)
    """Tried in this order; a series that none fits is skipped."""
    study: StudyRules = StudyRules()
    queue: QueueRules = QueueRules()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [rule.name for rule in self.rules]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two rules are called {', '.join(sorted(twice))}")
        return self

"""Decide by the rules what happens to a series, with a sentence for every rule."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from pydicom.datadict import dictionary_VR

from dicom_node.records import Reason
from dicom_node.routes import Choice, Route
from dicom_node.rules.book import Action, Condition, Rule, RuleBook
from dicom_node.rules.rank import rank_of
from dicom_node.rules.traits import SeriesTraits

RULE_SKIPS: Final = "RULE_SKIPS"
NO_RULE_FITS: Final = "NO_RULE_FITS"
RULE_FIRED: Final = "RULE_FIRED"
RULE_NOT_FIRED: Final = "RULE_NOT_FIRED"

# Free text may hold anything, a patient's name too; only values of these types are quoted.
_QUOTED_VRS: Final = frozenset({"CS", "DS", "IS", "UI", "US", "SS", "FD", "FL", "UL", "SL", "AS"})
_LONGEST_QUOTE: Final = 48


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules say about a series.

    Parameters
    ----------
    route : Route or None
        ``None`` when it is skipped.
    refusal : Reason or None
        Why it is skipped.
    trail : tuple of Reason
        For every rule that was tried, why it fired or did not.
    """

    route: Route | None
    refusal: Reason | None
    trail: tuple[Reason, ...]


def decide(traits: SeriesTraits, book: RuleBook) -> Decision:
    """Try the rules in their order; the first one that fits decides."""
    trail: list[Reason] = []
    for rule in book.rules:
        obstacle = _obstacle(rule, traits)
        if obstacle is None:
            trail.append(Reason(RULE_FIRED, f"rule {rule.name} fits"))
            return _consequence(rule, traits, trail)
        trail.append(Reason(RULE_NOT_FIRED, f"rule {rule.name} does not fit: {obstacle}"))
    refusal = Reason(NO_RULE_FITS, f"none of {len(book.rules)} rules fits this series")
    return Decision(None, refusal, tuple(trail))


def _consequence(rule: Rule, traits: SeriesTraits, trail: Sequence[Reason]) -> Decision:
    if rule.action is Action.SKIP:
        refusal = Reason(RULE_SKIPS, f"rule {rule.name}: {rule.because}")
        return Decision(None, refusal, tuple(trail))
    rank, summary = rank_of(traits) if rule.choose is Choice.BEST else ((), "")
    route = Route(rule.name, rule.priority, rule.destinations, rule.choose, rank, summary)
    return Decision(route, None, tuple(trail))


def _obstacle(rule: Rule, traits: SeriesTraits) -> str | None:
    """Why a rule does not fit, ``None`` when it does."""
    patterns = rule.sources
    if patterns and not any(fnmatchcase(traits.source, pattern) for pattern in patterns):
        return f"the source is {traits.source}, not {' or '.join(patterns)}"
    for condition in rule.when:
        holds, finding = _examine(condition, traits)
        if holds == condition.negate:
            return finding
    return None


def _examine(condition: Condition, traits: SeriesTraits) -> tuple[bool, str]:
    """Whether a condition holds before it is negated, and what was found in either case."""
    if condition.geometry is not None:
        value = traits.geometry.get(condition.geometry)
        found = "unknown" if value is None else f"{value:g}"
        measured = [] if value is None else [f"{value:g}"]
        return _holds(condition, measured), f"{condition.geometry.value} is {found}"
    keyword = condition.attribute or ""
    values = tuple(value for value in traits.values(keyword) if value)
    return _holds(condition, values), _said(keyword, values)


def _holds(condition: Condition, values: Sequence[str]) -> bool:
    if condition.present is not None:
        return bool(values) is condition.present
    if condition.contains is not None:
        return any(condition.contains.casefold() in value.casefold() for value in values)
    if condition.matches is not None:
        return any(re.search(condition.matches, value, re.IGNORECASE) for value in values)
    wanted = condition.one_of if condition.equals is None else (condition.equals,)
    if wanted:
        return any(_same(value, other) for value in values for other in wanted)
    numbers = [number for value in values if (number := _number(value)) is not None]
    return any(
        (condition.at_least is None or number >= condition.at_least)
        and (condition.at_most is None or number <= condition.at_most)
        for number in numbers
    )


def _same(value: str, wanted: str | float) -> bool:
    if isinstance(wanted, str):
        return value.casefold() == wanted.casefold()
    return _number(value) == wanted


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _said(keyword: str, values: Sequence[str]) -> str:
    if not values:
        return f"{keyword} is empty"
    if dictionary_VR(keyword) in _QUOTED_VRS:
        return f"{keyword} is {chr(92).join(values)[:_LONGEST_QUOTE]}"
    return f"{keyword} says something else"

"""Print rules and what they would do, as text for people or JSON for machines."""

from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from dicom_node.reports import print_json
from dicom_node.rules.book import Action, RuleBook
from dicom_node.rules.rehearsal import Rehearsal


def print_rules(book: RuleBook, *, as_json: bool) -> None:
    """Print one line for each rule."""
    if as_json:
        print_json(book.model_dump(mode="json", by_alias=True))
        return
    console = _console()
    for rule in book.rules:
        sources = ", ".join(rule.sources) or "every source"
        does = rule.action.value
        if rule.action is Action.ANALYSE:
            does = f"analyse {rule.choose.value}, {rule.priority.value}"
        console.print(f"{rule.name}: {does}; {sources}, {len(rule.when)} conditions")


def print_rehearsal(rehearsal: Rehearsal, *, as_json: bool) -> None:
    """Print what would be analysed, and every series for which something changes."""
    if as_json:
        print_json(asdict(rehearsal) | {"added": rehearsal.added, "removed": rehearsal.removed})
        return
    console = _console()
    analysed = sum(one.analysed_then for one in rehearsal.series)
    console.print(
        f"of {len(rehearsal.series)} stored series {analysed} would be analysed; "
        f"this change adds {rehearsal.added} and drops {rehearsal.removed}"
    )
    if rehearsal.unread:
        console.print(f"{rehearsal.unread} series are not stored any more or cannot be read")
    for one in rehearsal.series:
        mark = Text("+ " if one.analysed_then else "- ", "green" if one.analysed_then else "red")
        if one.changed:
            mark.append(f"{one.series_instance_uid} from {one.source}: {one.because}", "default")
            console.print(mark)


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)

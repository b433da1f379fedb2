"""Commands about rule files: are they valid, what would they do."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption

if TYPE_CHECKING:
    from dicom_node.config import NodeSettings
    from dicom_node.rules.book import RuleBook

FileArgument = Annotated[
    Path | None, typer.Argument(help="Rule file; the one of the settings when absent.")
]


def check(
    file: FileArgument = None, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """Validate a rule file; every fault is told with its line."""
    from dicom_node.config import load_settings
    from dicom_node.reports_of_rules import print_rules

    settings = load_settings(config)
    print_rules(_rules(file or settings.rules.file, settings), as_json=as_json)


def rehearse_rules(
    file: FileArgument = None,
    days: Annotated[float, typer.Option(min=0, help="Stored series of so many days.")] = 7.0,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Say of stored series what a rule file would choose, and what changes. Changes nothing.

    Exit status 3: no series is stored from these days.
    """
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.reports_of_rules import print_rehearsal
    from dicom_node.rules.rehearsal import rehearse
    from dicom_node.spool import Spool

    settings = load_settings(config)
    on_trial = _rules(file or settings.rules.file, settings)
    in_force = _rules(settings.rules.file, settings)
    since = datetime.now(UTC) - timedelta(days=days)
    with open_ledger(settings) as ledger:
        records = ledger.series_since(since)
        spool = Spool.of(settings.storage)
        # Every header is read, which takes about three seconds for a thousand images.
        with typer.progressbar(records, label="reading headers", file=sys.stderr) as read:
            rehearsal = rehearse(read, ledger, spool, in_force, on_trial)
    print_rehearsal(rehearsal, as_json=as_json)
    if not rehearsal.series:
        raise typer.Exit(Exit.NOTHING)


def register(app: typer.Typer) -> None:
    """Add these commands below ``psoas rules``."""
    group = typer.Typer(
        help="Which series are analysed: validate rules, try them on stored series.",
        no_args_is_help=True,
    )
    group.command()(check)
    group.command(name="test")(rehearse_rules)
    app.add_typer(group, name="rules")


def _rules(file: Path | None, settings: "NodeSettings") -> "RuleBook":
    from dicom_node.rules.book import RuleBook
    from dicom_node.rules.reading import load_rules

    return RuleBook() if file is None else load_rules(file, settings)

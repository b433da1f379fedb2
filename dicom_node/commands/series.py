"""Commands about single series: find them, release, complete or drop them."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.options import (
    DEFAULT_CONFIG,
    BecauseOption,
    ConfigOption,
    Exit,
    JsonOption,
)

if TYPE_CHECKING:
    from dicom_node.administration import Order
    from dicom_node.ledger import Ledger
    from dicom_node.records import SeriesRecord

Uids = Annotated[list[str], typer.Argument(help="Series Instance UIDs, or the ends of them.")]


def where(
    term: Annotated[
        str, typer.Argument(help="Accession number, or UID of a study, series, image or result.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Say where a study is now, and why nothing was done if nothing was.

    Exit status 3: the node has never received it.
    """
    from dicom_node.administration import whereabouts
    from dicom_node.audit import local_user, record_user_action
    from dicom_node.audit_events import UserAction
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.reports import print_whereabouts
    from dicom_node.spool import Spool

    settings = load_settings(config)
    with open_ledger(settings) as ledger:
        found = whereabouts(term, ledger, Spool.of(settings.storage))
    studies = list(dict.fromkeys(one.series.study_instance_uid for one in found))
    record_user_action(settings, local_user(), UserAction.VIEWED, studies)
    print_whereabouts(found, as_json=as_json)
    if not found:
        raise typer.Exit(Exit.NOTHING)


def release(
    uids: Uids,
    config: ConfigOption = DEFAULT_CONFIG,
    because: BecauseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let quarantined series go on as they are: you have looked at them."""
    from dicom_node.administration import release_series

    _each(uids, release_series, config, because, as_json=as_json)


def complete(
    uids: Uids,
    config: ConfigOption = DEFAULT_CONFIG,
    because: BecauseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Wait no longer for images of series: they are all there."""
    from dicom_node.administration import force_completion

    _each(uids, force_completion, config, because, as_json=as_json)


def drop(
    uids: Uids,
    config: ConfigOption = DEFAULT_CONFIG,
    because: BecauseOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Give series up: no analysis, no further delivery. Images stay; retry brings them back."""
    from dicom_node.administration import drop_series

    if not yes:
        typer.confirm(f"drop {len(uids)} series?", abort=True, err=True)
    _each(uids, drop_series, config, because, as_json=as_json)


def resume_deliveries(
    config: ConfigOption = DEFAULT_CONFIG,
    destination: Annotated[
        str | None, typer.Option(help="Name in the settings; every destination when absent.")
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Series Instance UID, or the end of it; all when absent.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send what destinations did not take once more, after whatever was wrong is mended."""
    from dicom_node.audit import audit_command
    from dicom_node.config import load_settings
    from dicom_node.inspection import find_series, open_ledger, resume
    from dicom_node.reports import print_resumed

    settings = load_settings(config)
    with open_ledger(settings) as ledger:
        uid = None if series is None else find_series(series, ledger).series_instance_uid
        of_series = f" of series {uid}" if uid else ""
        where_to = destination or "every destination"
        audit_command(settings, f"resume deliveries{of_series} to {where_to}")
        resumed = resume(ledger, destination, uid)
    print_resumed(resumed, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (where, release, complete, drop, resume_deliveries):
        app.command()(command)


def _each(
    uids: list[str],
    act: "Callable[[str, Ledger, Order], SeriesRecord]",
    config: Path,
    because: str,
    *,
    as_json: bool,
) -> None:
    from dicom_node.administration import Order, account_name
    from dicom_node.audit import local_user, record_user_action
    from dicom_node.audit_events import UserAction
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.reports import print_records

    order = Order(account_name(), datetime.now(UTC), because)
    settings, records = load_settings(config), []
    with open_ledger(settings) as ledger:
        for uid in uids:
            record = act(uid, ledger, order)
            studies = [record.study_instance_uid]
            record_user_action(settings, local_user(), UserAction.CHANGED, studies)
            records.append(record)
    print_records(records, as_json=as_json)

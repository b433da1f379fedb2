"""The command that asks a PACS what came, and fetches what was missed."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption

if TYPE_CHECKING:
    from dicom_node.catch_up import Compared
    from dicom_node.config import NodeSettings

_DAYS = ["%Y-%m-%d"]


class Way(StrEnum):
    """How images are fetched."""

    MOVE = "move"
    GET = "get"


def catch_up(  # noqa: PLR0913, PLR0917 - each option of a command is an argument
    since: Annotated[
        datetime | None, typer.Option(formats=_DAYS, help="First study date; yesterday if absent.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_DAYS, help="Last study date; the first if absent.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="HOST:PORT or DICOMweb URL, in place of the PACS in the settings.")
    ] = "",
    called: Annotated[str, typer.Option(help="AE title of --source.")] = "ARCHIVE",
    by: Annotated[
        Way, typer.Option(help="C-MOVE to our listener, or C-GET over our own association.")
    ] = Way.MOVE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List only, fetch nothing.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Ask the PACS which CT series came, list them beside the ledger, fetch what was missed.

    The listener must run: fetched images come in through it, and rules decide about them as ever.

    Exit status 4: something is missing still.

    Example: psoas catch-up --since 2026-01-01 --until 2026-01-03 --dry-run
    """
    from dicom_node.catch_up import Standing, catalogues, compare, fetch_missing
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.reports_of_catch_up import print_compared

    settings = load_settings(config)
    first = since.date() if since else _yesterday()
    last = until.date() if until else first
    missing = 0
    try:
        archives = catalogues(settings, source, called, by_get=by is Way.GET)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    listed: dict[str, list[Compared]] = {}
    with open_ledger(settings) as ledger:
        for archive in archives:
            compared = compare(archive, first, last, ledger)
            series = {one.held.series_instance_uid: one for one in compared}
            if not dry_run:
                _audit(settings, compared, archive.name)
                fetched = fetch_missing(compared, archive, ledger)
                series |= {one.held.series_instance_uid: one for one in fetched}
            missing += sum(one.standing is not Standing.HERE for one in series.values())
            listed[archive.name] = list(series.values())
    print_compared(listed, as_json=as_json, dry_run=dry_run)
    if missing:
        raise typer.Exit(Exit.UNFINISHED)


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(catch_up)


def _audit(settings: "NodeSettings", compared: "Sequence[Compared]", name: str) -> None:
    from dicom_node.audit import local_user, record_user_action
    from dicom_node.audit_events import UserAction
    from dicom_node.catch_up import Standing

    studies = dict.fromkeys(
        one.held.study_instance_uid for one in compared if one.standing is not Standing.HERE
    )
    for study in studies:
        said = f"fetched from {name}"
        record_user_action(settings, local_user(), UserAction.CHANGED, [study], description=said)


def _yesterday() -> date:
    # Study dates are those of the hospital's clock.
    return (datetime.now(UTC).astimezone() - timedelta(days=1)).date()

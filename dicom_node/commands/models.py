"""Commands about models: install, use and roll back weights, measure again, compare silently."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
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
from dicom_node.records import SeriesState

if TYPE_CHECKING:
    from dicom_node.config import NodeSettings
    from dicom_node.model_store import InstalledModel
    from dicom_node.replay import Planned

_DAYS = ["%Y-%m-%d"]
ModelArgument = Annotated[
    str, typer.Argument(help="Key of an installed model, or a folder with manifest.json.")
]
ModelOption = Annotated[
    str | None, typer.Option(help="Key of an installed model; the active one when absent.")
]
SinceOption = Annotated[
    datetime | None, typer.Option(formats=_DAYS, help="Last image on this day or later (UTC).")
]
UntilOption = Annotated[
    datetime | None, typer.Option(formats=_DAYS, help="Last image on this day or earlier (UTC).")
]


def list_models(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List installed weights, whether their files are whole, and which are in use."""
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.model_store import changed_files, installed_models
    from dicom_node.reports_of_models import print_models
    from dicom_node.spool import Spool

    settings = load_settings(config)
    spool = Spool.of(settings.storage)
    models = {model: changed_files(model, spool) for model in installed_models(spool)}
    with open_ledger(settings) as ledger:
        uses, shadows = ledger.models.history(), ledger.shadows.counts()
    print_models(models, uses, shadows, settings, as_json=as_json)
    if any(models.values()):
        raise typer.Exit(Exit.FAILED)


def add(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Install weights without using them; refused when manifest, files or code do not fit."""
    from dicom_node.config import load_settings
    from dicom_node.reports_of_models import print_installed

    settings = load_settings(config)
    print_installed(_installed(str(folder), settings), as_json=as_json)


def use(
    model: ModelArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    because: BecauseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Measure with other weights from the next series on; workers need no restart.

    A folder is installed first. What is at work ends with the weights that it began with.
    """
    from dicom_node.administration import account_name
    from dicom_node.audit import audit_command
    from dicom_node.config import load_settings
    from dicom_node.errors import UnknownModelError
    from dicom_node.inspection import open_ledger
    from dicom_node.model_store import changed_files
    from dicom_node.reports_of_models import print_used
    from dicom_node.spool import Spool

    settings = load_settings(config)
    with open_ledger(settings) as ledger:
        installed = _installed(model, settings)
        changed = changed_files(installed, Spool.of(settings.storage))
        if changed:
            raise UnknownModelError(f"{installed.key} is damaged: {', '.join(changed)} changed")
        audit_command(settings, f"model {installed.key} is used as {installed.kind.value}")
        now = datetime.now(UTC)
        ledger.models.use(installed.kind, installed.key, account_name(), now, because)
        print_used(ledger.models.active(), settings, as_json=as_json)


def rollback(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Take back the last `psoas model use`: the weights of before are used again.

    Exit status 3: there is nothing to take back.
    """
    from dicom_node.administration import account_name
    from dicom_node.audit import audit_command
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.reports_of_models import print_used

    settings = load_settings(config)
    with open_ledger(settings) as ledger:
        withdrawn = None
        if ledger.models.active():
            audit_command(settings, "the last model that was put to use is withdrawn")
            withdrawn = ledger.models.roll_back(account_name(), datetime.now(UTC))
        print_used(ledger.models.active(), settings, as_json=as_json)
    if withdrawn is None:
        raise typer.Exit(Exit.NOTHING)


def replay(  # noqa: PLR0913, PLR0917 - each option of a command is an argument
    uids: Annotated[
        list[str] | None, typer.Argument(help="UIDs of series or studies, or ends of series'.")
    ] = None,
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    since: SinceOption = None,
    until: UntilOption = None,
    state: Annotated[
        list[SeriesState] | None, typer.Option(help="Only series in this state; may be repeated.")
    ] = None,
    model: ModelOption = None,
    no_delivery: Annotated[
        bool, typer.Option("--no-delivery", help="For the record alone; needs --model.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    because: BecauseOption = "",
    as_json: JsonOption = False,
) -> None:
    """Measure series again, by another model or the active one.

    Results are new versions: their report names the one that it replaces. With --no-delivery they
    stay in the ledger, where psoas shadow report compares them.

    Exit status 3: there is nothing to do.

    Example: psoas replay --since 2026-01-01 --model our_segmenter-2-0a1b2c3d --dry-run
    """
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.replay import Plan, Selection, plan, select
    from dicom_node.reports_of_models import print_plan
    from dicom_node.spool import Spool

    if no_delivery and model is None:
        raise typer.BadParameter("--no-delivery needs --model")
    selection = Selection(
        tuple(uids or ()), accession, _day(since), _day(until), tuple(state or ())
    )
    if selection.is_empty:
        raise typer.BadParameter("name series, an --accession, --since, --until or a --state")
    settings = load_settings(config)
    with open_ledger(settings) as ledger:
        spool = Spool.of(settings.storage)
        records = select(selection, ledger, spool)
        planned = plan(records, model, ledger, spool, silent=no_delivery)
        if not dry_run:
            _carry_out(planned, model, settings, because)
    print_plan(planned, as_json=as_json, dry_run=dry_run)
    if not any(one.plan in {Plan.REPLAY, Plan.SILENT} for one in planned):
        raise typer.Exit(Exit.NOTHING)


def shadow_report(
    model: Annotated[str, typer.Argument(help="Key of the model that measured silently.")],
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write a page (HTML) with plot and table.")
    ] = None,
    since: SinceOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Compare what a model measured silently with what was reported: Bland-Altman, verdicts.

    Exit status 3: there is nothing to compare.
    """
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.reports_of_models import print_comparison
    from dicom_node.shadow_page import page
    from dicom_node.shadow_report import compare

    with open_ledger(load_settings(config)) as ledger:
        start = since and since.replace(tzinfo=UTC)
        comparison = compare(model, ledger, start)
    if out is not None:
        out.write_text(page(comparison, datetime.now(UTC)), encoding="utf-8")
    print_comparison(comparison, as_json=as_json)
    if not comparison.pairs:
        raise typer.Exit(Exit.NOTHING)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Weights: install, use, roll back.", no_args_is_help=True)
    group.command(name="list")(list_models)
    for command in (add, use, rollback):
        group.command()(command)
    app.add_typer(group, name="model")
    app.command()(replay)
    shadows = typer.Typer(
        help="Weights that measure silently beside those in use.", no_args_is_help=True
    )
    # A callback keeps typer from making the only command the group itself.
    shadows.callback()(_shadows)
    shadows.command(name="report")(shadow_report)
    app.add_typer(shadows, name="shadow")


def _shadows() -> None:
    """Compare weights that measure silently with those in use; [shadow] in the settings."""


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()


def _installed(model: str, settings: "NodeSettings") -> "InstalledModel":
    """Return an installed model; a folder is installed first."""
    from dicom_node.audit import audit_command
    from dicom_node.model_install import install_model
    from dicom_node.model_store import installed_model
    from dicom_node.spool import Spool

    spool, folder = Spool.of(settings.storage), Path(model)
    if not (folder / "manifest.json").is_file():
        return installed_model(model, spool)
    installed = install_model(folder, spool, datetime.now(UTC))
    audit_command(settings, f"model {installed.key} is installed")
    return installed


def _carry_out(
    planned: "Sequence[Planned]", model: str | None, settings: "NodeSettings", because: str
) -> None:
    """Audit each series, then let it be measured again."""
    from dicom_node.administration import Order, account_name
    from dicom_node.audit import local_user, record_user_action
    from dicom_node.audit_events import UserAction
    from dicom_node.inspection import open_ledger
    from dicom_node.replay import carry_out

    order = Order(account_name(), datetime.now(UTC), because)
    with open_ledger(settings) as ledger:
        for one in planned:
            done = carry_out((one,), model, ledger, order)
            studies = [record.study_instance_uid for record in done]
            if studies:
                said = f"measured again by {model or 'the active model'}"
                record_user_action(
                    settings, local_user(), UserAction.CHANGED, studies, description=said
                )

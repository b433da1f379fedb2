"""The command ``psoas``."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicom_node import __version__
from dicom_node.commands import (
    catch_up,
    control,
    models,
    monitors,
    rules,
    series,
    sizing,
    upgrade,
    validation,
)
from dicom_node.commands.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Exit,
    JsonOption,
    UidsArgument,
)
from dicom_node.config import load_settings
from dicom_node.console.commands import console, user_commands
from dicom_node.errors import MissingExtraError, NodeError
from dicom_node.records import SeriesState
from pipeline.errors import PipelineError

app = typer.Typer(
    name="psoas",
    help="Measure skeletal muscle at L3 on CT: a DICOM node that answers with SEG and SR.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command()(console)
app.add_typer(user_commands, name="user")


class Sex(StrEnum):
    """Sexes that cut-offs know."""

    MALE = "M"
    FEMALE = "F"


class Queue(StrEnum):
    """What a worker works on."""

    GPU = "gpu"
    NODE = "node"
    ALL = "all"


class PacsKind(StrEnum):
    """The stand-in PACS of the demo."""

    AUTO = "auto"
    ORTHANC = "orthanc"
    BUILTIN = "builtin"


def main() -> None:
    """Run the command line; faults are one sentence with their code, never a traceback."""
    try:
        app()
    except (NodeError, PipelineError) as error:
        _complain(f"{error} [{error.code}]")
    except ModuleNotFoundError as error:
        _complain(
            f"this command needs the package {error.name}, which is not installed: install "
            f"psoas[listener,worker,console] [{MissingExtraError.code}]"
        )


def _complain(sentence: str) -> None:
    typer.echo(f"psoas: {sentence}", err=True)
    sys.exit(Exit.FAILED)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"psoas {__version__}")
        raise typer.Exit


@app.callback()
def _psoas(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Measure skeletal muscle at L3 on CT: a DICOM node that answers with SEG and SR."""


@app.command()
def serve(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Receive images, decide what is analysed, keep the ledger.

    Starts the embedded broker when the settings name no Redis. Stop it with Ctrl-C.
    """
    from dicom_node.listener_process import run_listener

    run_listener(load_settings(config))


@app.command()
def worker(
    config: ConfigOption = DEFAULT_CONFIG,
    queue: Annotated[
        Queue, typer.Option(help="gpu measures, node records and delivers, all does both.")
    ] = Queue.ALL,
) -> None:
    """Measure series and deliver results, until Ctrl-C."""
    from dicom_node.worker_process import run_all_workers, run_worker

    settings = load_settings(config)
    stopped = run_all_workers(config) if queue is Queue.ALL else run_worker(settings, queue.value)
    if not stopped:
        raise typer.Exit(Exit.FAILED)


@app.command()
def check(
    config: ConfigOption = DEFAULT_CONFIG,
    accepts: Annotated[
        bool,
        typer.Option("--accepts", help="Ask each PACS which objects it accepts; recorded."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Try everything the settings name and say what is wrong, one sentence each."""
    from dicom_node.checks import check_node
    from dicom_node.reports import print_checks

    results = check_node(config, accepts=accepts)
    print_checks(results, as_json=as_json)
    if not all(result.passed for result in results):
        raise typer.Exit(Exit.FAILED)


@app.command()
def status(
    config: ConfigOption = DEFAULT_CONFIG,
    state: Annotated[
        list[SeriesState] | None, typer.Option(help="Only series in this state; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show so many series.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show how many series are in which state, and the latest ones."""
    from dicom_node.inspection import open_ledger, overview
    from dicom_node.reports import print_overview

    with open_ledger(load_settings(config)) as ledger:
        print_overview(overview(ledger, state or [], limit), as_json=as_json)


@app.command()
def show(
    uid: Annotated[str, typer.Argument(help="Series Instance UID, or the end of it.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show what happened to one series: history, measurement, deliveries."""
    from dicom_node.audit import local_user, record_user_action
    from dicom_node.audit_events import UserAction
    from dicom_node.inspection import account_of, open_ledger
    from dicom_node.reports import print_account

    settings = load_settings(config)
    with open_ledger(settings) as ledger:
        account = account_of(uid, ledger, settings)
        studies = [account.series.study_instance_uid]
        record_user_action(settings, local_user(), UserAction.VIEWED, studies)
        print_account(account, as_json=as_json)


@app.command()
def retry(
    uids: UidsArgument = None,
    config: ConfigOption = DEFAULT_CONFIG,
    state: Annotated[
        list[SeriesState] | None,
        typer.Option(help="Every series in this state, such as failed; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Analyse and deliver series once more that ended: failed, quarantined, skipped, delivered."""
    from dicom_node.audit import local_user, record_user_action
    from dicom_node.audit_events import UserAction
    from dicom_node.inspection import open_ledger, retry_series, series_in
    from dicom_node.reports import print_retried

    if not uids and not state:
        raise typer.BadParameter("name series or a --state")
    settings = load_settings(config)
    with open_ledger(settings) as ledger:
        wanted = [*(uids or []), *series_in(ledger, state or [])]
        records = []
        for uid in wanted:
            record = retry_series(uid, ledger, settings)
            studies = [record.study_instance_uid]
            record_user_action(settings, local_user(), UserAction.CHANGED, studies)
            records.append(record)
    print_retried(records, as_json=as_json)


@app.command()
def alarms(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List what a person should look at."""
    from dicom_node.inspection import open_ledger
    from dicom_node.reports import print_alarms

    with open_ledger(load_settings(config)) as ledger:
        print_alarms(ledger.alarms.standing(), as_json=as_json)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="New or empty.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Copy the ledger and every file that it names, while the node runs."""
    from datetime import UTC, datetime

    from dicom_node.audit import local_user, record_user_action
    from dicom_node.audit_events import UserAction
    from dicom_node.backup import back_up
    from dicom_node.reports import print_backup

    settings = load_settings(config)
    said = f"backup of the whole node to {folder}"
    record_user_action(settings, local_user(), UserAction.EXPORTED, description=said)
    report = back_up(settings, folder, datetime.now(UTC))
    print_backup(report, f"are in {folder}", as_json=as_json)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Of psoas backup.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Bring a backup back into a node that has nothing yet; start psoas serve afterwards."""
    from dicom_node.audit import audit_command
    from dicom_node.backup import restore as bring_back
    from dicom_node.reports import print_backup

    settings = load_settings(config)
    audit_command(settings, f"restore of {folder}")
    report = bring_back(settings, folder)
    print_backup(report, "were restored", as_json=as_json)


@app.command()
def migrate(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Bring the ledger of an earlier version up to date; psoas serve does so too."""
    from dicom_node.database import schema_version
    from dicom_node.inspection import open_ledger
    from dicom_node.reports import print_json

    settings = load_settings(config)
    before = schema_version(settings.ledger_url) if settings.storage.folder.is_dir() else None
    with open_ledger(settings):
        after = schema_version(settings.ledger_url)
    if as_json:
        print_json({"revision": after, "before": before})
        return
    typer.echo(f"the ledger is at {after}" + (f", it was at {before}" if before != after else ""))


@app.command()
def pull(
    out: Annotated[Path, typer.Option(help="Folder; one folder in it for each series.")],
    source: Annotated[str, typer.Option(help="HOST:PORT of the archive, or a DICOMweb URL.")],
    called: Annotated[str, typer.Option(help="AE title of the archive.")] = "ARCHIVE",
    calling: Annotated[
        str, typer.Option(help="Our AE title; TITLE:PORT fetches by C-MOVE to us, not by C-GET.")
    ] = "PSOAS_PULL",
    study: Annotated[
        list[str] | None, typer.Option(help="Study Instance UID; may be repeated.")
    ] = None,
    dates: Annotated[str, typer.Option(help="Study dates, such as 20240101-20240331.")] = "",
) -> None:
    """Fetch CT series with their SEG and RTSTRUCT from an archive, for training.

    Example: psoas pull --source 127.0.0.1:4242 --called ORTHANC --study 1.2.3 --out pulled
    """
    from dicom_node.pulling import Wanted, pull_from, pull_with_progress

    if not study and not dates:
        raise typer.BadParameter("name a --study or --dates")
    try:
        fetched = pull_from(source, (called, calling), Wanted(tuple(study or ()), dates), out)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"{len(pull_with_progress(fetched))} series fetched into {out}")


@app.command()
def send(
    folder: Annotated[Path, typer.Argument(exists=True, help="Searched through all levels.")],
    to: Annotated[str, typer.Option(help="HOST:PORT of the peer.")],
    called: Annotated[str, typer.Option(help="AE title of the peer.")] = "PSOAS",
    calling: Annotated[str, typer.Option(help="Our AE title.")] = "PSOAS_SEND",
) -> None:
    """Store a folder of DICOM files at a peer, compressed ones as they are.

    Example: psoas send ct/ --to 127.0.0.1:11112 --called PSOAS
    """
    from dicom_node.folder_sending import parse_peer, send_folder

    try:
        peer = parse_peer(to, called)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not send_folder(folder, peer, calling):
        raise typer.Exit(Exit.FAILED)


@app.command()
def analyse(
    folder: Annotated[Path, typer.Argument(exists=True, help="DICOM files, one or more series.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the results.")],
    sex: Annotated[
        Sex | None, typer.Option(case_sensitive=False, help="Replaces Patient's Sex.")
    ] = None,
    height_m: Annotated[
        float | None, typer.Option(min=0.5, max=2.6, help="In metres; replaces Patient's Size.")
    ] = None,
    slice_uid: Annotated[
        str | None, typer.Option(help="SOP Instance UID of the slice to measure.")
    ] = None,
) -> None:
    """Measure one folder without any network.

    Writes measurement.json, seg.dcm, sr.dcm, key_image.dcm and overlay.png.
    Exit status 3: cannot be measured.

    Example: psoas analyse ct/ --out results/ --sex F --height-m 1.62
    """
    from dicom_node.folder_analysis import analyse_folder

    try:
        raise typer.Exit(analyse_folder(folder, out, sex and sex.value, height_m, slice_uid))
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error.strerror}") from None


@app.command()
def conformance(
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write there instead of printing.")
    ] = None,
) -> None:
    """Write the DICOM Conformance Statement of this version."""
    from dicom_node.conformance import statement
    from pipeline.objects.results import RESULT_BUILDERS

    text = statement(RESULT_BUILDERS)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")


@app.command()
def demo(
    pacs: Annotated[
        PacsKind, typer.Option(help="Stand-in PACS; auto takes Orthanc when it is installed.")
    ] = PacsKind.AUTO,
    keep: Annotated[
        Path | None, typer.Option(help="Work in this folder and leave everything there.")
    ] = None,
) -> None:
    """Send a real CT through a real node and read the results back from a PACS."""
    from dicom_node.demo.run import run_demo

    raise typer.Exit(run_demo(pacs.value, keep))


for group in (
    series,
    control,
    rules,
    models,
    catch_up,
    monitors,
    sizing,
    upgrade,
    validation,
):
    group.register(app)

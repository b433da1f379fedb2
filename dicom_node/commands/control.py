"""Commands that tell the whole node something: pause, resume, drain."""

import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dicom_node.commands.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption

if TYPE_CHECKING:
    from dicom_node.config import NodeSettings
    from dicom_node.records import Switch

_POLL_S: Final = 0.5


class Part(StrEnum):
    """What can be paused."""

    ANALYSIS = "analysis"
    DELIVERY = "delivery"
    ALL = "all"


PartArgument = Annotated[Part, typer.Argument(help="What of the work.")]


def pause(
    part: PartArgument = Part.ALL,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Go on receiving, but hand out no further work until it is resumed."""
    from dicom_node.administration import Order, account_name, turn_on
    from dicom_node.audit import audit_command
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.reports import print_switches

    settings = load_settings(config)
    with open_ledger(settings) as ledger:
        audit_command(settings, f"pause {part.value}")
        turn_on(_switches(part), ledger, Order(account_name(), datetime.now(UTC)))
        print_switches(ledger.switches(), as_json=as_json)


def resume(
    part: PartArgument = Part.ALL,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take back a pause; without a part also a drain."""
    from dicom_node.audit import audit_command
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.records import Switch
    from dicom_node.reports import print_switches

    switches = [*Switch] if part is Part.ALL else _switches(part)
    settings = load_settings(config)
    with open_ledger(settings) as ledger:
        audit_command(settings, f"resume {part.value}")
        for switch in switches:
            ledger.turn_off(switch)
        print_switches(ledger.switches(), as_json=as_json)


def drain(
    config: ConfigOption = DEFAULT_CONFIG,
    wait_s: Annotated[
        float, typer.Option(min=0, help="Wait so many seconds for the end; 0 only gives the order.")
    ] = 3600.0,
    keep_workers: Annotated[
        bool, typer.Option("--keep-workers", help="Stop the listeners only.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Refuse new images politely, finish what is under way, stop.

    Listeners stop by themselves, then the workers are told to. What a PACS does not take for now
    stays in the ledger and goes out after the next start. Exit status 4: not finished in time.
    """
    from dicom_node.administration import Order, account_name, turn_on, under_way
    from dicom_node.audit import audit_command
    from dicom_node.config import load_settings
    from dicom_node.inspection import open_ledger
    from dicom_node.records import Switch
    from dicom_node.reports import print_drain

    settings = load_settings(config)
    with open_ledger(settings) as ledger:
        audit_command(settings, "drain")
        turn_on([Switch.DRAINING], ledger, Order(account_name(), datetime.now(UTC)))
        deadline = time.monotonic() + wait_s
        while (left := under_way(ledger)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    if not left and wait_s and not keep_workers:
        _stop_workers(settings)
    print_drain(left, as_json=as_json)
    if left and wait_s:
        raise typer.Exit(Exit.UNFINISHED)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (pause, resume, drain):
        app.command()(command)


def _switches(part: Part) -> "list[Switch]":
    from dicom_node.records import Switch

    of_part = {Part.ANALYSIS: Switch.ANALYSIS_PAUSED, Part.DELIVERY: Switch.DELIVERY_PAUSED}
    return [switch for name, switch in of_part.items() if part in {name, Part.ALL}]


def _stop_workers(settings: "NodeSettings") -> None:
    from kombu.exceptions import OperationalError

    from dicom_node.celery_app import create_app
    from dicom_node.errors import BrokerError

    try:
        create_app(settings).control.shutdown()
    except (OperationalError, OSError):
        # The embedded broker has gone with its listener, and workers without a broker do nothing.
        if settings.broker.url is not None:
            raise BrokerError("the workers cannot be told to stop: no broker answers") from None

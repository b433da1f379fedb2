"""Commands that run other people's monitors at our broker."""

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.commands.options import DEFAULT_CONFIG, ConfigOption


def flower(
    config: ConfigOption = DEFAULT_CONFIG,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port on loopback.")] = 5555,
    login_file: Annotated[
        Path | None, typer.Option(help="Holds NAME:PASSWORD; opens its API too.")
    ] = None,
    control: Annotated[
        bool, typer.Option("--control", help="It may stop workers and revoke tasks.")
    ] = False,
) -> None:
    """Serve Flower, Celery's own monitor, on loopback, until Ctrl-C."""
    from dicom_node.config import load_settings
    from dicom_node.flower_process import run_flower

    run_flower(load_settings(config), port, login_file, control=control)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(flower)

"""The command that validates what this node runs on cases that others drew."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.commands.options import Exit


def validate(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="CT with drawings.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the report.")],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", exists=True, help="Validate with this node's models and cut-offs."
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="dicom, nifti, saros, lits.")] = "dicom",
    stated: Annotated[
        Path | None,
        typer.Option(exists=True, help="CSV: case, and any of area_cm2, z_mm (L3), sex."),
    ] = None,
    names: Annotated[
        list[str] | None, typer.Option("--map", help="'Psoas muscle=1': what counts as muscle.")
    ] = None,
) -> None:
    """Compare our measurement with drawn masks, and write a report that can be signed.

    Writes validation.html and validation.json: Dice, error of the area, Bland-Altman, verdicts,
    error of the level, by scanner and sex. Needs the extra training.

    Example: psoas validate study/ --out report/ --config node.toml
    """
    words = [str(folder), "--out", str(out), "--layout", layout]
    words += ["--stated", str(stated)] if stated else []
    words += [word for name in names or [] for word in ("--map", name)]
    words += _of_node(config) if config else []
    # The node never imports the training code: it asks for it as a user would.
    command = [sys.executable, "-m", "training", "validate", *words]
    if subprocess.run(command, check=False).returncode:  # noqa: S603 - ourselves
        raise typer.Exit(Exit.FAILED)
    typer.echo(f"the report is {out / 'validation.html'}")


def _of_node(config: Path) -> list[str]:
    from dicom_node.config import load_settings

    settings = load_settings(config)
    worker, measurement = settings.worker, settings.measurement
    values = {
        "--segmenter": worker.segmenter,
        "--level-finder": worker.level_finder,
        "--device": worker.device,
        "--cutoffs": measurement.cutoffs,
        "--cutoff-file": measurement.cutoff_file,
    }
    return [word for name, value in values.items() if value for word in (name, str(value))]


def register(app: typer.Typer) -> None:
    """Add the command to ``psoas``."""
    app.command()(validate)

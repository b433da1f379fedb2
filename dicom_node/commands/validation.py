"""The command that validates what this node runs on cases that others drew."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.options import Exit

if TYPE_CHECKING:
    from dicom_node.config import NodeSettings


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
    words += words_of_node(config) if config else []
    # The node never imports the training code: it asks for it as a user would.
    command = [sys.executable, "-m", "training", "validate", *words]
    if subprocess.run(command, check=False).returncode:  # noqa: S603 - ourselves
        raise typer.Exit(Exit.FAILED)
    typer.echo(f"the report is {out / 'validation.html'}")


def words_of_node(config: Path) -> list[str]:
    """Return the words that ask for what a node runs.

    Its models are those that ``psoas model use`` named last, else those of the settings.
    """
    from dicom_node.config import load_settings

    settings = load_settings(config)
    worker, measurement = settings.worker, settings.measurement
    used = _models_in_use(settings)
    values = {
        "--segmenter": used.get("segmenter") or worker.segmenter,
        "--level-finder": used.get("level_finder") or worker.level_finder,
        "--device": worker.device,
        "--cutoffs": measurement.cutoffs,
        "--cutoff-file": measurement.cutoff_file,
    }
    return [word for name, value in values.items() if value for word in (name, str(value))]


def _models_in_use(settings: "NodeSettings") -> dict[str, Path | None]:
    """Folders of the models that were put to use, by kind; a node that never ran has none."""
    from dicom_node.inspection import open_ledger
    from dicom_node.model_store import model_folder
    from dicom_node.spool import Spool

    if not settings.storage.folder.is_dir():
        return {}
    with open_ledger(settings) as ledger:
        active = ledger.models.active()
    spool = Spool.of(settings.storage)
    return {kind.value: model_folder(key, spool) for kind, key in active.items()}


def register(app: typer.Typer) -> None:
    """Add the command to ``psoas``."""
    app.command()(validate)

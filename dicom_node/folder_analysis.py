"""Measure a folder by hand, and say in a line what came out."""

from pathlib import Path

import typer

from pipeline.__main__ import FolderRequest, analyze_folder, exit_status
from pipeline.types import Sex


def analyse_folder(
    folder: Path, out: Path, sex: str | None, height_m: float | None, slice_uid: str | None
) -> int:
    """Measure a folder and print the outcome.

    Parameters
    ----------
    folder, out : Path
    sex : str or None
    height_m : float or None
    slice_uid : str or None
        As in ``pipeline.analyze.AnalysisRequest``.

    Returns
    -------
    int
        0 when a series was measured, 3 otherwise.

    Raises
    ------
    OSError
        The results cannot be written.
    """
    request = FolderRequest(folder, out, Sex(sex) if sex else None, height_m, slice_uid)
    measurement = analyze_folder(request)
    status = exit_status(measurement)
    if status:
        typer.echo(f"not measured: {measurement['reason']} [{measurement['code']}]", err=True)
        return status
    area_cm2 = measurement["skeletal_muscle_area_cm2"]
    typer.echo(f"skeletal muscle area {area_cm2:.1f} cm², results in {out}")
    return status

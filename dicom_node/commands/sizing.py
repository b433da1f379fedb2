"""The command that computes what a site needs."""

from dataclasses import asdict
from typing import Annotated

import typer

from dicom_node.commands.options import JsonOption


def size(
    hospitals: Annotated[
        list[int] | None, typer.Option(min=1, help="May be repeated; 1, 5, 20 and 100 if absent.")
    ] = None,
    studies: Annotated[float, typer.Option(min=0, help="CT studies of a hospital a day.")] = 100.0,
    images_days: Annotated[
        float, typer.Option(min=0, help="Days that images are kept ([retention]).")
    ] = 7.0,
    ingest_cpu_s: Annotated[
        float | None, typer.Option(help="CPU seconds for a GiB, as the benchmark says.")
    ] = None,
    work_cpu_s: Annotated[
        float | None, typer.Option(help="CPU seconds for a series, as the benchmark says.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute cores, listeners and disks for hospitals of some size, from measured figures.

    Example: psoas size --hospitals 12 --studies 80 --images-days 3
    """
    from dicom_node.reports import print_json
    from dicom_node.sizing import GROUPS, Hospital, Measured, Policy, need, table

    usual = Measured()
    measured = Measured(
        ingest_cpu_s_per_gib=usual.ingest_cpu_s_per_gib if ingest_cpu_s is None else ingest_cpu_s,
        work_cpu_s_per_series=usual.work_cpu_s_per_series if work_cpu_s is None else work_cpu_s,
    )
    hospital = Hospital(studies_per_day=studies)
    policy = Policy(images_days=images_days)
    needs = [need(count, hospital, measured, policy) for count in hospitals or GROUPS]
    if as_json:
        print_json([asdict(one) for one in needs])
        return
    for line in table(needs):
        typer.echo(line)


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(size)

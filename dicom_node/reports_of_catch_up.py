"""Print what a PACS holds beside what is here, as text for people or JSON for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.text import Text

from dicom_node.catch_up import Compared, Standing
from dicom_node.reports import print_json

_STYLES: Final = {Standing.HERE: "green", Standing.INCOMPLETE: "yellow", Standing.MISSED: "red"}


def print_compared(
    listed: Mapping[str, Sequence[Compared]], *, as_json: bool, dry_run: bool
) -> None:
    """Print each series of each PACS; what was fetched stands as it is afterwards."""
    if as_json:
        series = [asdict(one) | {"pacs": name} for name, found in listed.items() for one in found]
        print_json({"dry_run": dry_run, "series": series})
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for name, found in listed.items():
        here = sum(one.standing is Standing.HERE for one in found)
        console.print(f"{name}: {here} of {len(found)} CT series are here")
        for one in found:
            count = one.held.instance_count
            line = Text(f"  {one.standing.value:<11}", _STYLES[one.standing])
            line.append(f"{one.here} of {'?' if count is None else count} images  ", "default")
            line.append(one.held.series_instance_uid, "default")
            line.append(f"  {one.state.value}" if one.state else "", "default")
            console.print(line)
            if one.complaint:
                console.print(f"    {one.complaint}")

"""Draw the tables of the benchmarks: ``python -m tests.benchmarks.plots FILE.md FOLDER``.

A drawing is made of a table as it was printed, so that numbers of any run can be drawn.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

Row = dict[str, str]
"""Cells of one row by the heads of their columns."""

_SIZE_INCHES = (9.0, 3.6)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def read_table(lines: Sequence[str]) -> list[Row]:
    """Rows of a Markdown table."""
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    heads, _, *rows = cells
    return [dict(zip(heads, row, strict=True)) for row in rows]


def draw(name: str, lines: Sequence[str]) -> Figure | None:
    """Draw the table of a benchmark; ``None`` for tables that are read sooner than drawn."""
    painter = _PAINTERS.get(name)
    if painter is None:
        return None
    figure = Figure(_SIZE_INCHES, layout="constrained")
    painter(figure, read_table(lines))
    return figure


def save_drawing(name: str, lines: Sequence[str], folder: Path) -> None:
    """Write the drawing of a benchmark's table as an SVG file, if it has one."""
    figure = draw(name, lines)
    if figure is not None:
        FigureCanvasSVG(figure).print_svg(folder / f"{name}.svg", metadata={"Date": None})


def _numbers(cell: str) -> list[float]:
    return [float(text.replace(",", "")) for text in _NUMBER.findall(cell)]


def _ingest(figure: Figure, rows: Sequence[Row]) -> None:
    """Rates and CPU by receiver: a group of bars for each number of associations."""
    with_nodelay = [row for row in rows if row["TCP_NODELAY"] == "yes"]
    without = [row for row in rows if row["TCP_NODELAY"] == "no"]
    left, middle, right = figure.subplots(1, 3)
    _bars(left, with_nodelay, "MB/s (least - most)", "MB/s, sender sets TCP_NODELAY")
    _bars(middle, without, "MB/s (least - most)", "MB/s, sender as shipped")
    _bars(right, with_nodelay, "CPU s/GiB", "CPU seconds for a GiB")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _bars(axes: Axes, rows: Sequence[Row], column: str, title: str) -> None:
    groups = list(dict.fromkeys(row["associations"] for row in rows))
    receivers = list(dict.fromkeys(row["receiver"] for row in rows))
    width = 0.8 / max(len(receivers), 1)
    for place, receiver in enumerate(receivers):
        found = [row for row in rows if row["receiver"] == receiver]
        at = [groups.index(row["associations"]) + (place + 0.5) * width - 0.4 for row in found]
        numbers = [_numbers(row[column]) for row in found]
        axes.bar(at, [one[0] for one in numbers], width, label=receiver)
        for position, one in zip(at, numbers, strict=True):
            if len(one) == 3:  # the least and the most
                axes.plot([position] * 2, one[1:], color="black", linewidth=1)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlabel("associations")
    axes.set_title(title, fontsize="medium")


def _lines(head: str, *columns: str) -> Callable[[Figure, Sequence[Row]], None]:
    """One field for each column, over the numbers under ``head``."""

    def paint(figure: Figure, rows: Sequence[Row]) -> None:
        fields = figure.subplots(1, len(columns), squeeze=False)[0]
        for axes, column in zip(fields, columns, strict=True):
            at = [_numbers(row[head])[0] for row in rows]
            axes.plot(at, [_numbers(row[column])[0] for row in rows], marker="o")
            axes.set_xlabel(head)
            axes.set_title(column, fontsize="medium")
            axes.set_ylim(bottom=0)
            if len(at) > 1 and at[-1] > 100 * at[0]:
                axes.set_xscale("log")

    return paint


def _ledger(figure: Figure, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    question, *sizes = rows[0]
    for row in rows:
        at = [_numbers(size)[0] for size in sizes]
        axes.plot(at, [_numbers(row[size])[0] for size in sizes], marker="o", label=row[question])
    axes.set_xscale("log")
    axes.set_xlabel("series in the ledger")
    axes.set_title("milliseconds for an answer", fontsize="medium")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")


_PAINTERS: dict[str, Callable[[Figure, Sequence[Row]], None]] = {
    "ingest": _ingest,
    "associations": _lines("associations", "MB/s (least - most)", "CPU s/GiB", "memory MiB"),
    "memory": _lines("images received", "resident MiB"),
    "spool": _lines("files in the spool", "search at start, s", "images/s", "`where`, ms"),
    "ledger": _ledger,
}


def main() -> None:
    """Draw every table below a heading that names a benchmark."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.plots")
    parser.add_argument("file", type=Path, help="what the benchmarks printed")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    for section in re.split(r"^### ", asked.file.read_text(), flags=re.MULTILINE)[1:]:
        name, *lines = section.splitlines()
        table = [line for line in lines if line.startswith("|")]
        save_drawing(name.strip(), table, asked.folder)


if __name__ == "__main__":
    main()

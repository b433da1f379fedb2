"""The pages that look back and around: trends of results, peers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from dicom_node.alarms import certificate_expiry, certificate_files
from dicom_node.console.charts import line_chart
from dicom_node.console.desk import Desk
from dicom_node.console.rendering import Renderer
from dicom_node.ledger_activity import deliveries_under_way, known_sources, last_images
from dicom_node.ledger_findings import Tally, tallies
from dicom_node.outcomes import OutcomeKind

_LOOK_BACK: Final = timedelta(days=730)
_MEASURED: Final = OutcomeKind.MEASURED.value
_UNMEASURED: Final = (OutcomeKind.SKIPPED.value,)
_FAILED: Final = (OutcomeKind.FAILED.value, OutcomeKind.QUARANTINED.value)


@dataclass(frozen=True, slots=True)
class Rates:
    """What came of the series of one source in one month.

    Parameters
    ----------
    month, source : str
    count : int
        Series that were analysed.
    failed, unmeasured : float
        Shares between 0 and 1.
    mean_cm2 : float or None
    """

    month: str
    source: str
    count: int
    failed: float
    unmeasured: float
    mean_cm2: float | None


class Insight:
    """Trends and peers of one console.

    Parameters
    ----------
    desk : Desk
    renderer : Renderer
    """

    def __init__(self, desk: Desk, renderer: Renderer) -> None:
        self._desk = desk
        self._renderer = renderer

    def trends(self, request: Request) -> Response:
        """Show how results and failures move, scanner by scanner."""
        since = f"{self._desk.clock() - _LOOK_BACK:%Y-%m}"
        rows = rates(self._desk.ledger.read(partial(tallies, since_month=since)))
        months = sorted({row.month for row in rows})
        charts = [
            (
                "Mean skeletal muscle area",
                line_chart(_lines(rows, "mean_cm2"), months, "Mean area", " cm²", from_zero=False),
            ),
            (
                "Failed or quarantined",
                line_chart(_lines(rows, "failed", 100), months, "Failed share", " %"),
            ),
            (
                "Not measurable",
                line_chart(_lines(rows, "unmeasured", 100), months, "Unmeasured share", " %"),
            ),
        ]
        return self._renderer.page(request, "trends.html", {"rows": rows, "charts": charts})

    def peers(self, request: Request) -> Response:
        """Show who sends and who receives, and when each was last heard of."""
        ledger, settings = self._desk.ledger, self._desk.settings
        named = [source.ae_title for source in settings.sources]
        sources = list(dict.fromkeys([*named, *ledger.read(known_sources)]))
        values = {
            "sources": sources,
            "last_images": ledger.read(partial(last_images, sources=sources)),
            "destinations": settings.destinations,
            "echoes": ledger.findings.echoes(),
            "backlogs": ledger.read(deliveries_under_way),
            "certificates": [
                (path.name, certificate_expiry(path)) for path in certificate_files(settings)
            ],
            "alarms": ledger.alarms.standing(),
        }
        return self._renderer.page(request, "peers.html", values)


def rates(counted: Sequence[Tally]) -> list[Rates]:
    """Turn counts into shares, for each month and source."""
    groups: dict[tuple[str, str], dict[str, Tally]] = defaultdict(dict)
    for tally in counted:
        groups[tally.month, tally.source_ae_title][tally.kind] = tally
    return [_rates(month, source, kinds) for (month, source), kinds in sorted(groups.items())]


def _rates(month: str, source: str, kinds: Mapping[str, Tally]) -> Rates:
    total = sum(tally.count for tally in kinds.values())

    def share(names: Sequence[str]) -> float:
        return sum(kinds[name].count for name in names if name in kinds) / total

    measured = kinds.get(_MEASURED)
    mean_cm2 = None if measured is None else measured.mean_cm2
    return Rates(month, source, total, share(_FAILED), share(_UNMEASURED), mean_cm2)


def _lines(
    rows: Sequence[Rates], attribute: str, factor: float = 1.0
) -> dict[str, dict[str, float]]:
    lines: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        value = getattr(row, attribute)
        if value is not None:
            lines[row.source][row.month] = value * factor
    return dict(lines)

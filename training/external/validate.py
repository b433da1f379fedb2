"""Validate the node's measurement on a folder of images and drawings, and write the report."""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

from pipeline.analyze import Cutoffs, Models, load_cutoffs
from training.external.cases import Compared, Picture, Stated, UnusableCaseError, compare_case
from training.external.page import Report, page
from training.external.statistics import criteria
from training.intake.found import FoundCase
from training.intake.layouts import find_cases
from training.progress import track
from training.runfolder import code_version
from training.store import write_text

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """What to validate on.

    Parameters
    ----------
    source : Path
    layout : str
        A key of ``training.intake.layouts.LAYOUTS``.
    names : Mapping
        As for ``find_cases``.
    stated : Mapping
        What the site says of cases, by name.
    cutoffs : Cutoffs
    """

    source: Path
    layout: str = "dicom"
    names: Mapping[str, int] = field(default_factory=dict)
    stated: Mapping[str, Stated] = field(default_factory=dict)
    cutoffs: Cutoffs = field(default_factory=load_cutoffs)


def validate(request: ValidationRequest, models: Models, out: Path) -> Report:
    """Measure every case with a drawing, and write ``validation.html`` and ``validation.json``.

    Parameters
    ----------
    request : ValidationRequest
    models : Models
    out : Path

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If no case can be compared.
    """
    # The key dies with this process: pseudonyms tell patients apart within the report alone.
    cases = find_cases(request.source, request.layout, request.names, secrets.token_bytes(32))
    rows: list[Compared] = []
    excluded: list[tuple[str, str]] = []
    pictures: list[Picture] = []
    for place, found in enumerate(track(cases, "cases")):
        try:
            row, picture = compare_case(found, request.stated, models, request.cutoffs)
        except UnusableCaseError as error:
            excluded.append((f"case {place + 1} of {found.patient}", str(error)))
            continue
        rows.append(row)
        pictures.append(picture)
        log.info("compared", case=row.name, dice=row.dice, verdict=row.verdict)
    if not rows:
        reasons = "; ".join(sorted({reason for _, reason in excluded}))
        raise ValueError(f"none of {len(cases)} cases can be compared: {reasons}")
    facts = _facts(request, models, cases, rows)
    report = Report(tuple(rows), tuple(excluded), facts, tuple(pictures))
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "validation.html", page(report))
    content = {
        "facts": dict(facts),
        "cases": [asdict(row) for row in rows],
        "excluded": [list(one) for one in excluded],
        "criteria": [asdict(one) for one in criteria(rows)],
    }
    write_text(out / "validation.json", json.dumps(content, indent=1) + "\n")
    return report


def _facts(
    request: ValidationRequest,
    models: Models,
    cases: Sequence[FoundCase],
    rows: Sequence[Compared],
) -> tuple[tuple[str, str], ...]:
    code = code_version()["code"]
    used = (models.segmenter.identity, *models.level_finder.models)
    size = request.cutoffs.size
    return (
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("software", f"psoas {code['psoas']} {code['commit']}".strip()),
        *((f"model {one.name}", f"{one.version}, sha256 {one.sha256}") for one in used),
        ("cut-off", f"{size.name}: {size.citation}"),
        ("cases", f"{len(rows)} compared of {len(cases)} found, layout {request.layout}"),
        ("patients", str(len({row.patient for row in rows}))),
        ("data", f"sha256 {_digest(rows)} of names, slices and reference areas"),
    )


def _digest(rows: Sequence[Compared]) -> str:
    lines = sorted(f"{row.name} {row.slice_index} {row.reference_cm2:.4f}" for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()

"""Writes a data folder: mapped volumes, labels, a case list, and what is wrong with them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.level.l3 import load_level_finder
from pipeline.types import CTVolume
from training import store
from training.intake.checks import Code, Finding, check_case, find_swaps
from training.intake.found import Drawn, FoundCase
from training.labels import complete, gate_muscle
from training.progress import track

log = structlog.get_logger(__name__)

_PLACE_CODES: Final = frozenset({Code.SHIFTED, Code.MIRRORED, Code.MISFIT, Code.EMPTY})
_DRAWN_CONFIDENCE: Final = 1.0


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """How cases are brought in.

    Parameters
    ----------
    around_l3_mm : float
        Keep labelled slices within this distance of L3, found by the shipped finder; 0 keeps all.
    keep_suspect : bool
        Put cases with findings into the case list all the same.
    provenance : Mapping
        Where images and labels come from; goes into the model card of what is trained on them.
    """

    around_l3_mm: float = 0.0
    keep_suspect: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Brought:
    """One case in the data folder.

    Parameters
    ----------
    name, patient, sex : str
    slices : int
        Labelled ones.
    muscle_cm2 : float
        Median of the labelled slices; 0 without labels.
    findings : tuple of Finding
    """

    name: str
    patient: str
    sex: str
    slices: int
    muscle_cm2: float
    findings: tuple[Finding, ...]


def bring_in(cases: Sequence[FoundCase], out: Path, options: IntakeOptions) -> list[Brought]:
    """Read every case, check it, and write what training reads.

    A case whose files have not changed since the last time is not read again. ``cases.toml`` lists
    the labelled cases without findings, ``unlabelled.toml`` every volume, ``findings.json`` and
    ``findings.md`` what a person should look at.

    Parameters
    ----------
    cases : sequence of FoundCase
    out : Path
    options : IntakeOptions

    Returns
    -------
    list of Brought
    """
    brought = []
    for name, case in track(list(_named(cases)), "bringing in"):
        brought.append(_known(out, name, case, options) or _bring(out, name, case, options))
    brought = _with_swaps(out, brought)
    _write_lists(out, brought, options)
    for code, count in Counter(f.code for one in brought for f in one.findings).items():
        log.warning("findings", code=str(code), cases=count)
    return brought


def _named(cases: Sequence[FoundCase]) -> Iterator[tuple[str, FoundCase]]:
    """Name cases by patient and number, the same whatever order folders were found in."""
    counts: Counter[str] = Counter()
    for case in sorted(cases, key=lambda one: (one.patient, str(one.files[0]))):
        counts[case.patient] += 1
        yield f"{case.patient}_{counts[case.patient]}", case


def _known(out: Path, name: str, case: FoundCase, options: IntakeOptions) -> Brought | None:
    """Return what is in the folder already, when neither files nor options have changed."""
    path = out / "cases" / f"{name}.json"
    if not path.exists():
        return None
    stored = json.loads(path.read_text())
    if stored["source"] != _source(case, options):
        return None
    findings = tuple(Finding(f["case"], Code(f["code"]), f["message"]) for f in stored["findings"])
    return Brought(**{**stored["case"], "findings": findings})


def _source(case: FoundCase, options: IntakeOptions) -> str:
    return f"{store.fingerprint(list(case.files))} {options.around_l3_mm:g}"


def _bring(out: Path, name: str, case: FoundCase, options: IntakeOptions) -> Brought:
    try:
        volume = case.read_volume()
        drawn = case.read_labels(volume) if case.read_labels else None
    except (PipelineError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        code = error.code if isinstance(error, PipelineError) else type(error).__name__
        finding = Finding(name, Code.GEOMETRY, f"cannot be read: {code}")
        return _noted(out, case, options, Brought(name, case.patient, case.sex, 0, 0.0, (finding,)))
    findings = check_case(name, volume, drawn) if drawn else []
    store.write_volume(out / "volumes" / f"{name}.npy", volume, _source(case, options))
    slices = _training_labels(volume, _near_l3(volume, drawn, options)) if drawn else {}
    areas = [float((one == 1).sum()) * volume.pixel_area_mm2 / 100 for one in slices.values()]
    if slices:
        path = out / "labels" / f"{name}.npy"
        store.write_labels(path, slices, _DRAWN_CONFIDENCE, _source(case, options))
    area_cm2 = float(np.median(areas)) if areas else 0.0
    brought = Brought(name, case.patient, case.sex, len(slices), area_cm2, tuple(findings))
    return _noted(out, case, options, brought)


def _noted(out: Path, case: FoundCase, options: IntakeOptions, brought: Brought) -> Brought:
    path = out / "cases" / f"{brought.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {k: v for k, v in asdict(brought).items() if k != "findings"}
    findings = [asdict(finding) for finding in brought.findings]
    content = {"source": _source(case, options), "case": values, "findings": findings}
    store.write_text(path, json.dumps(content))
    return brought


def _near_l3(volume: CTVolume, drawn: Drawn, options: IntakeOptions) -> Drawn:
    """Leave out labelled slices far from L3; all of them when L3 cannot be found."""
    if not options.around_l3_mm:
        return drawn
    try:
        level = load_level_finder(None).find(volume)
    except PipelineError:
        return Drawn({}, drawn.whole, drawn.faults)
    reach = options.around_l3_mm / volume.slice_spacing_mm
    near = {i: one for i, one in drawn.slices.items() if abs(i - level.slice_index) <= reach}
    return Drawn(near, drawn.whole, drawn.faults)


def _training_labels(volume: CTVolume, drawn: Drawn) -> dict[int, NDArray[np.uint8]]:
    """Labels of every compartment for each slice that was drawn."""
    slices = {}
    for index, one in drawn.slices.items():
        hu = volume.hu[index]
        gated = gate_muscle(one, hu)
        slices[index] = gated if drawn.whole else complete(gated, hu, volume.pixel_spacing_mm)
    return slices


def _with_swaps(out: Path, brought: Sequence[Brought]) -> list[Brought]:
    """Add what only shows when suspects are compared with each other."""
    volumes, drawings = {}, {}
    for one in brought:
        if one.slices and any(finding.code in _PLACE_CODES for finding in one.findings):
            volumes[one.name] = store.read_volume(out / "volumes" / f"{one.name}.npy")
            drawings[one.name] = _stored_drawing(out / "labels" / f"{one.name}.npy")
    swaps = find_swaps(volumes, drawings)
    return [
        Brought(
            **{k: getattr(one, k) for k in ("name", "patient", "sex", "slices", "muscle_cm2")},
            findings=(*one.findings, *(f for f in swaps if f.case == one.name)),
        )
        for one in brought
    ]


def _stored_drawing(path: Path) -> Drawn:
    labels = np.load(path, mmap_mode="r")
    indices = store.describe(path)["slices"]
    return Drawn(dict(zip(indices, labels, strict=True)), whole=True)


def _write_lists(out: Path, brought: Sequence[Brought], options: IntakeOptions) -> None:
    usable = [b for b in brought if b.slices and (options.keep_suspect or not b.findings)]
    lines = [
        "# Written by `python -m training import`; patients are pseudonyms.",
        "",
        "[provenance]",
    ]
    numbers = {
        "patients": len({one.patient for one in usable}),
        "slices": sum(one.slices for one in usable),
    }
    provenance = {**numbers, **options.provenance}
    lines += [f"{key} = {json.dumps(value)}" for key, value in provenance.items()]
    for one in usable:
        lines += ["", "[[case]]"]
        values = {
            "name": one.name, "patient": one.patient, "sex": one.sex,
            "muscle_cm2": round(one.muscle_cm2, 1),
            "images": f"volumes/{one.name}.npy", "labels": f"labels/{one.name}.npy",
        }  # fmt: skip
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    store.write_text(out / "cases.toml", "\n".join(lines) + "\n")
    images = [
        f'[[images]]\npath = "volumes/{one.name}.npy"\nshare = 1.0\n'
        for one in brought
        if (out / "volumes" / f"{one.name}.npy").exists()
    ]
    store.write_text(out / "unlabelled.toml", "\n".join(images))
    _write_findings(out, brought)


def _write_findings(out: Path, brought: Sequence[Brought]) -> None:
    findings = [finding for one in brought for finding in one.findings]
    plain = json.dumps([asdict(finding) for finding in findings], indent=1)
    store.write_text(out / "findings.json", plain + "\n")
    labelled = sum(1 for one in brought if one.slices)
    lines = [
        f"{len(brought)} series, {labelled} with labels, "
        f"{len({finding.case for finding in findings})} with findings.",
        "",
        "| case | finding | what was seen |",
        "| --- | --- | --- |",
        *(f"| {f.case} | {f.code} | {f.message} |" for f in findings),
    ]
    store.write_text(out / "findings.md", "\n".join(lines) + "\n")

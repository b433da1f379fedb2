"""Subcommands for what the reference paper left open."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
import torch

from pipeline.analyze import load_cutoffs, load_models
from pipeline.cutoffs import DEFAULT_PROFILE
from pipeline.preprocess import PreprocessSpec
from training.ablation import PRETRAINED, SCRATCH, ablation_lines
from training.ablation import compare as compare_trainings
from training.classify.evaluate import read_areas
from training.config import CASES_FOLDER, read_finetune_recipe
from training.crossvalidation import group_patients, measure_folds, train_folds
from training.data import read_labelled
from training.external.areas import area_lines, check_areas
from training.external.cases import read_stated
from training.external.validate import ValidationRequest, validate
from training.intake.layouts import LAYOUTS, find_cases
from training.report import report, write_report
from training.sensitivity import ERRORS_PERCENT, shift_lines, shifts
from training.split import read_people
from training.store import write_text

log = structlog.get_logger(__name__)


def add_commands(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    """Add ``validate``, ``areas``, ``sensitivity`` and ``ablate``."""
    _add_validate(commands.add_parser("validate", help="external validation, as a report"))
    _add_areas(commands.add_parser("areas", help="areas of masks against stated ones"))
    _add_sensitivity(commands.add_parser("sensitivity", help="who changes class at an error"))
    _add_ablate(commands.add_parser("ablate", help="the same folds without pre-training"))


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="folder of images and drawings")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="dicom")
    parser.add_argument("--map", action="append", default=[], metavar="NAME=LABEL")
    parser.add_argument(
        "--stated", type=Path, help="CSV: case, and any of area_cm2, z_mm (middle of L3), sex"
    )


def _names(parsed: argparse.Namespace) -> dict[str, int]:
    return {name: int(label) for name, label in (one.rsplit("=", 1) for one in parsed.map)}


def _add_validate(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--segmenter", type=Path, help="model folder; the shipped one without")
    parser.add_argument("--level-finder", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cutoffs", default=DEFAULT_PROFILE)
    parser.add_argument("--cutoff-file", type=Path)
    parser.set_defaults(run=_validate)


def _validate(parsed: argparse.Namespace) -> None:
    request = ValidationRequest(
        parsed.source,
        parsed.layout,
        _names(parsed),
        read_stated(parsed.stated) if parsed.stated else {},
        load_cutoffs(parsed.cutoffs, None, parsed.cutoff_file),
    )
    models = load_models(parsed.segmenter, parsed.level_finder, parsed.device)
    written = validate(request, models, parsed.out)
    log.info(
        "validated", cases=len(written.rows), left_out=len(written.excluded),
        path=str(parsed.out / "validation.html"),
    )  # fmt: skip


def _add_areas(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    parser.set_defaults(run=_areas)


def _areas(parsed: argparse.Namespace) -> None:
    if parsed.stated is None:
        raise SystemExit("areas needs --stated: there is nothing to compare with")
    cases = find_cases(parsed.source, parsed.layout, _names(parsed), b"")
    checks, left_out = check_areas(cases, read_stated(parsed.stated), PreprocessSpec())
    for sentence in left_out:
        log.warning("left out", case=sentence)
    sys.stdout.write("\n".join(area_lines(checks)) + "\n")
    if not checks or not all(check.holds for check in checks):
        raise SystemExit(1)


def _add_sensitivity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "measured", type=Path, help="slices.json of table or evaluation.json of evaluate"
    )
    parser.add_argument("--cases", type=Path, required=True, help="case list, for the sexes")
    parser.add_argument("--error", type=float, action="append", metavar="PERCENT")
    parser.set_defaults(run=_sensitivity)


def _sensitivity(parsed: argparse.Namespace) -> None:
    sexes = {person.patient: person.sex for person in read_people(parsed.cases)}
    found = shifts(read_areas(parsed.measured), sexes, parsed.error or ERRORS_PERCENT)
    if not found:
        raise SystemExit("no measured patient has a sex in the case list")
    sys.stdout.write("\n".join(shift_lines(found)) + "\n")


def _add_ablate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=Path, help="case list instead of the recipe's")
    parser.add_argument("--pretrained", type=Path, metavar="RUN", required=True)
    parser.add_argument("--groups", type=int, default=10**6, help="folds; else one a patient")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.set_defaults(run=_ablate)


def _ablate(parsed: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    cases = parsed.cases or read_finetune_recipe(parsed.recipe).case_list
    slices = read_labelled(parsed.data, cases)
    groups = group_patients(slices, parsed.groups)
    words = [str(parsed.recipe), "--data", str(parsed.data)]
    words += [] if cases.parent == CASES_FOLDER else ["--cases", str(cases)]
    start = ["--pretrained", str(parsed.pretrained)]
    reports = {}
    for name, more in ((PRETRAINED, start), (SCRATCH, [])):
        train_folds(groups, [*words, *more], parsed.out / name, parsed.jobs)
        reports[name] = report(measure_folds(parsed.out / name, slices), {})
    write_report(reports, parsed.out / "report")
    found = compare_trainings(reports[PRETRAINED].rows, reports[SCRATCH].rows)
    counts = {name: len(one.rows) for name, one in reports.items()}
    plain = json.dumps([asdict(one) for one in found], indent=1)
    write_text(parsed.out / "ablation.json", plain + "\n")
    write_text(parsed.out / "ablation.md", "\n".join(ablation_lines(found, counts)) + "\n")
    log.info("compared", path=str(parsed.out / "ablation.md"))

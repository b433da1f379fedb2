"""Subcommands that bring data in, judge it and split it."""

import argparse
import json
from pathlib import Path
from typing import Any

import structlog

from training.data import LabelledSlice, read_labelled
from training.intake.checks import check_case
from training.intake.found import Drawn
from training.intake.intake import IntakeOptions, bring_in
from training.intake.layouts import LAYOUTS, find_cases, pseudonym_key
from training.split import PAPER_SHARES, folds, parts, read_people, write_split

log = structlog.get_logger(__name__)


def add_commands(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    """Add ``import``, ``check`` and ``split``."""
    _add_import(commands.add_parser("import", help="make a data folder of images and labels"))
    _add_check(commands.add_parser("check", help="find labels that do not fit their images"))
    _add_split(commands.add_parser("split", help="split patients, stratified by sex and label"))


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path)
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="dicom")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="NAME=LABEL",
        help="what a segment, region or value stands for, such as 'Psoas muscle=1'",
    )
    parser.add_argument("--around-l3", type=float, default=0.0, metavar="MM")
    parser.add_argument("--keep-suspect", action="store_true")
    parser.add_argument("--provenance", type=Path, help="JSON for the model card")
    parser.set_defaults(run=_import)


def _import(parsed: argparse.Namespace) -> None:
    names = {name: int(label) for name, label in (one.rsplit("=", 1) for one in parsed.map)}
    key = pseudonym_key(parsed.out)
    cases = find_cases(parsed.source, parsed.layout, names, key)
    provenance = json.loads(parsed.provenance.read_text()) if parsed.provenance else {}
    options = IntakeOptions(parsed.around_l3, parsed.keep_suspect, provenance)
    brought = bring_in(cases, parsed.out, options)
    log.info(
        "brought in",
        series=len(brought),
        labelled=sum(1 for one in brought if one.slices),
        suspect=sum(1 for one in brought if one.findings),
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", type=Path, help="case list; by default cases.toml in the folder")
    parser.set_defaults(run=_check)


def _check(parsed: argparse.Namespace) -> None:
    slices = read_labelled(parsed.data, parsed.cases or parsed.data / "cases.toml")
    by_case: dict[str, list[LabelledSlice]] = {}
    for one in slices:
        by_case.setdefault(one.case, []).append(one)
    wrong = 0
    for name, drawn in by_case.items():
        labels = Drawn({one.slice_index: one.labels for one in drawn}, whole=True)
        for finding in check_case(name, drawn[0].volume, labels):
            wrong += 1
            log.warning("finding", case=name, code=str(finding.code), message=finding.message)
    log.info("checked", cases=len(by_case), findings=wrong)
    if wrong:
        raise SystemExit(1)


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", type=Path, help="case list; by default cases.toml in the folder")
    parser.add_argument(
        "--folds", type=int, help="so many folds instead of the paper's three parts"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.set_defaults(run=_split)


def _split(parsed: argparse.Namespace) -> None:
    people = read_people(parsed.cases or parsed.data / "cases.toml")
    if parsed.folds:
        split = folds(people, parsed.folds, parsed.seed)
    else:
        split = parts(people, PAPER_SHARES, parsed.seed)
    write_split(parsed.data / "split.json", split, parsed.seed)
    log.info("split", **{name: len(patients) for name, patients in split.items()})

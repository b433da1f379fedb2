"""Subcommands ``classify train | folds | evaluate | export``."""

import argparse
import json
from pathlib import Path
from typing import Any

import structlog

from training.classify.cases import read_classed
from training.classify.evaluate import compare, measure_folds, read_areas, write_comparison
from training.classify.export import export_classifier
from training.classify.recipe import read_recipe
from training.classify.train import train
from training.crossvalidation import run_folds
from training.split import folds, read_people, read_split
from training.table import fold_words

log = structlog.get_logger(__name__)


def add_commands(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    """Add ``classify`` with its own subcommands."""
    parser = commands.add_parser("classify", help="train the classification branch")
    own = parser.add_subparsers(required=True)
    _add_train(own.add_parser("train", help="train a classifier, block by block"))
    _add_folds(own.add_parser("folds", help="train without each fold of patients"))
    _add_evaluate(own.add_parser("evaluate", help="both branches side by side"))
    _add_export(own.add_parser("export", help="write a model folder for the node"))


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=Path, help="by default cases.toml in the data folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--published", type=Path, help="RadImageNet's or ImageNet's weights")
    parser.add_argument("--hold-out", action="append", default=[], metavar="PATIENT")
    parser.add_argument("--validate-on", action="append", default=[], metavar="PATIENT")
    parser.add_argument("--split", type=Path, help="as split writes it")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(run=_train)


def _train(parsed: argparse.Namespace) -> None:
    split = read_split(parsed.split) if parsed.split else {}
    cases = parsed.cases or parsed.data / "cases.toml"
    changes: dict[str, Any] = {
        "held_out": (*parsed.hold_out, *split.get("test", ())),
        "validation": (*parsed.validate_on, *split.get("validation", ())),
        "cases": str(cases),
    }
    if parsed.published:
        changes["published"] = str(parsed.published)
    if parsed.seed is not None:
        changes["seed"] = parsed.seed
    recipe = read_recipe(parsed.recipe, changes)
    train(recipe, read_classed(parsed.data, cases), parsed.out, parsed.resume, parsed.device)


def _add_folds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=Path, help="by default cases.toml in the data folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--split-seed", type=int, default=1, help="the same as table's --seed")
    parser.add_argument("--jobs", type=int, default=1, help="folds trained at a time")
    parser.set_defaults(run=_folds)


def _folds(parsed: argparse.Namespace) -> None:
    cases = parsed.cases or parsed.data / "cases.toml"
    words = ["classify", "train", str(parsed.recipe), "--data", str(parsed.data)]
    words += ["--cases", str(cases)]
    if parsed.published:
        words += ["--published", str(parsed.published)]
    dealt = folds(read_people(cases), parsed.folds, parsed.split_seed)
    run_folds(fold_words(dealt, words), parsed.out, parsed.jobs)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folds", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=Path, help="by default cases.toml in the data folder")
    parser.add_argument(
        "--segmentation", type=Path, help="slices.json of table or evaluation.json of evaluate"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.set_defaults(run=_evaluate)


def _evaluate(parsed: argparse.Namespace) -> None:
    cases = parsed.cases or parsed.data / "cases.toml"
    slices = read_classed(parsed.data, cases)
    areas = read_areas(parsed.segmentation) if parsed.segmentation else {}
    rows = measure_folds(parsed.folds, slices)
    sexes = {one.patient: one.sex for one in slices}
    write_comparison(compare(rows, areas, sexes), parsed.out)
    log.info("compared", path=str(parsed.out / "classification.md"))


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="classifier_l3")
    parser.add_argument("--version", required=True)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--threshold", type=float)
    chosen.add_argument("--evaluation", type=Path, metavar="REPORT", help="as evaluate writes it")
    parser.set_defaults(run=_export)


def _export(parsed: argparse.Namespace) -> None:
    threshold, report = parsed.threshold, ""
    if parsed.evaluation:
        threshold = json.loads((parsed.evaluation / "classification.json").read_text())["threshold"]
        report = (parsed.evaluation / "classification.md").read_text()
    checkpoints = [run / "checkpoint.pt" for run in parsed.runs]
    name_version = (parsed.name, parsed.version)
    export_classifier(checkpoints, name_version, threshold, parsed.out, report)
    log.info("exported", folder=str(parsed.out))

"""Command line of the training code.

::

    python -m training import SOURCE --layout dicom --out DIR
    python -m training check DIR
    python -m training split DIR [--folds 10]
    python -m training import-weights FILE --out RUN
    python -m training pretrain RECIPE --data DIR --out RUN [--resume]
    python -m training finetune RECIPE --data DIR --out RUN [--hold-out PATIENT] [--resume]
                                [--pretrained RUN | --weights MODEL] [--seed N]
    python -m training crossvalidate RECIPE --data DIR --out FOLDS [--pretrained RUN] [--jobs 2]
                                [--groups 3] [--further FOLDS]
    python -m training table RECIPE --data DIR --out FOLDS [--folds 10] [--jobs 2]
    python -m training benchmark --data DIR
    python -m training evaluate FOLDS... --data DIR --out REPORT
    python -m training export RUN... --out MODEL --version 1 --threshold 0.45
    python -m training export RUN... --out MODEL --version 1 --evaluation REPORT --folds FOLDS
    python -m training classify train RECIPE --data DIR --published FILE --out RUN
    python -m training classify folds RECIPE --data DIR --published FILE --out FOLDS
    python -m training classify evaluate FOLDS --data DIR --segmentation slices.json --out REPORT
    python -m training classify export RUN... --out MODEL --version 1 --evaluation REPORT
    python -m training validate FOLDER --out REPORT [--stated CSV]
    python -m training areas FOLDER --stated CSV
    python -m training sensitivity slices.json --cases CASES
    python -m training ablate RECIPE --data DIR --pretrained RUN --out ABLATION
    python -m training level RECIPE --data DIR --out RUN [--hold-out PATIENT]
    python -m training evaluate-level RUN... --data DIR --out REPORT
    python -m training export-level RUN... --out MODEL --version 1
"""

# SimpleITK types only some of its methods.
# mypy: disable-error-code="no-untyped-call"

import argparse
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk  # noqa: N813 - the name its manual uses
import structlog
import torch

from training import data_commands, more_commands, question_commands
from training.classify import commands as classify_commands
from training.config import CASES_FOLDER, read_finetune_recipe, read_pretrain_recipe
from training.crossvalidation import group_patients, measure_folds, train_folds
from training.data import read_labelled
from training.export import ModelDescription, export
from training.finetune import finetune
from training.level import main as train_level
from training.level import read_recipe as read_level_recipe
from training.level_evaluate import evaluate_level
from training.level_export import export_level
from training.pretrain import pretrain
from training.report import middle_slices, report, write_level_report, write_report
from training.split import read_split
from training.unlabelled import read_unlabelled

log = structlog.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand."""
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    data_commands.add_commands(commands)
    more_commands.add_commands(commands)
    classify_commands.add_commands(commands)
    question_commands.add_commands(commands)
    _add_pretrain(commands.add_parser("pretrain", help="train an encoder without labels"))
    _add_finetune(commands.add_parser("finetune", help="train a segmenter"))
    _add_crossvalidate(commands.add_parser("crossvalidate", help="train without each patient"))
    _add_evaluate(commands.add_parser("evaluate", help="measure patients left out"))
    _add_export(commands.add_parser("export", help="write a model folder"))
    _add_level(commands.add_parser("level", help="train a finder of L3"))
    _add_evaluate_level(commands.add_parser("evaluate-level", help="find L3 in volumes left out"))
    _add_export_level(commands.add_parser("export-level", help="write a finder's model folder"))
    parsed = parser.parse_args(arguments)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    parsed.run(parsed)


def _add_pretrain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="list of images instead of the recipe's")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(run=_pretrain)


def _pretrain(parsed: argparse.Namespace) -> None:
    recipe = read_pretrain_recipe(parsed.recipe)
    unlabelled = read_unlabelled(parsed.data, parsed.images or recipe.image_list)
    pretrain(recipe, unlabelled, parsed.out, parsed.resume, parsed.device)


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--pretrained", type=Path, metavar="RUN")
    parser.add_argument("--weights", type=Path, metavar="MODEL", help="or a run, to go on from")
    parser.add_argument("--hold-out", action="append", default=[], metavar="PATIENT")
    parser.add_argument("--seed", type=int, help="instead of the recipe's: another member")
    parser.add_argument("--validate-on", action="append", default=[], metavar="PATIENT")
    parser.add_argument("--split", type=Path, help="as split writes it: parts validation and test")
    parser.add_argument("--cases", type=Path, help="case list instead of the recipe's")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(run=_finetune)


def _finetune(parsed: argparse.Namespace) -> None:
    changes = _patients(parsed)
    if parsed.pretrained:
        changes["pretrained"] = str(parsed.pretrained / "checkpoint.pt")
    if parsed.weights:
        changes["weights"] = str(parsed.weights)
    if parsed.seed is not None:
        changes["seed"] = parsed.seed
    recipe = read_finetune_recipe(parsed.recipe, changes)
    slices = read_labelled(parsed.data, recipe.case_list)
    finetune(recipe, slices, parsed.out, parsed.resume, parsed.device)


def _patients(parsed: argparse.Namespace) -> dict[str, Any]:
    """Return what the recipe must know of patients besides what it says itself."""
    split = read_split(parsed.split) if parsed.split else {}
    changes = {
        "held_out": [*parsed.hold_out, *split.get("test", ())],
        "validation": [*parsed.validate_on, *split.get("validation", ())],
        "cases": str(parsed.cases) if parsed.cases else "",
    }
    return {name: value for name, value in changes.items() if value}


def _add_crossvalidate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pretrained", type=Path, metavar="RUN")
    parser.add_argument("--further", type=Path, metavar="FOLDS", help="go on from these folds")
    parser.add_argument("--jobs", type=int, default=1, help="folds trained at a time")
    parser.add_argument(
        "--groups", type=int, default=10**6, help="so many folds; without it one for each patient"
    )
    parser.set_defaults(run=_crossvalidate)


def _crossvalidate(parsed: argparse.Namespace) -> None:
    slices = read_labelled(parsed.data, read_finetune_recipe(parsed.recipe).case_list)
    arguments = [str(parsed.recipe), "--data", str(parsed.data)]
    if parsed.pretrained:
        arguments += ["--pretrained", str(parsed.pretrained)]
    train_folds(
        group_patients(slices, parsed.groups), arguments, parsed.out, parsed.jobs, parsed.further
    )


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folds", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=Path, default=CASES_FOLDER / "labelled_l3.toml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.set_defaults(run=_evaluate)


def _evaluate(parsed: argparse.Namespace) -> None:
    torch.set_num_threads(parsed.threads)
    slices = read_labelled(parsed.data, parsed.cases)
    bundled = parsed.cases.parent == CASES_FOLDER
    middle = middle_slices(parsed.data, CASES_FOLDER / "levels.toml") if bundled else {}
    reports = {
        folder.name: report(measure_folds(folder, slices), middle) for folder in parsed.folds
    }
    write_report(reports, parsed.out)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="smit_l3")
    parser.add_argument("--version", required=True)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--threshold", type=float, help="without a calibration of intervals")
    chosen.add_argument(
        "--evaluation",
        type=Path,
        metavar="REPORT",
        help="as evaluate writes it: threshold and calibration are taken from there",
    )
    parser.add_argument("--folds", default="pretrained", help="which of the evaluated folders")
    parser.add_argument("--cases", type=Path, default=CASES_FOLDER / "labelled_l3.toml")
    parser.set_defaults(run=_export)


def _export(parsed: argparse.Namespace) -> None:
    measured = {"threshold": parsed.threshold, "calibration": None}
    if parsed.evaluation:
        measured = json.loads((parsed.evaluation / "evaluation.json").read_text())[parsed.folds]
    description = ModelDescription(
        parsed.name,
        parsed.version,
        measured["threshold"],
        calibration=measured["calibration"],
        data=_provenance(parsed.cases),
        evaluation=measured if parsed.evaluation else None,
    )
    manifest = export([run / "checkpoint.pt" for run in parsed.runs], description, parsed.out)
    log.info("exported", folder=str(parsed.out), files=len(manifest["files"]))


def _add_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hold-out", action="append", default=[], metavar="PATIENT")
    parser.set_defaults(run=_level)


def _level(parsed: argparse.Namespace) -> None:
    recipe = read_level_recipe(parsed.recipe, parsed.hold_out)
    train_level(recipe, parsed.data, parsed.out)


def _add_evaluate_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=Path, default=CASES_FOLDER / "levels.toml")
    parser.add_argument("--out", type=Path, required=True)
    parser.set_defaults(run=_evaluate_level)


def _evaluate_level(parsed: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    checkpoints = [run / "checkpoint.pt" for run in parsed.runs]
    write_level_report(evaluate_level(checkpoints, parsed.data, parsed.cases), parsed.out)


def _add_export_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--cases", type=Path, default=CASES_FOLDER / "levels.toml")
    parser.set_defaults(run=_export_level)


def _export_level(parsed: argparse.Namespace) -> None:
    checkpoints = [run / "checkpoint.pt" for run in parsed.runs]
    export_level(checkpoints, parsed.version, _provenance(parsed.cases), parsed.out)


def _provenance(case_list: Path) -> dict[str, Any]:
    provenance: dict[str, Any] = tomllib.loads(case_list.read_text()).get("provenance", {})
    return provenance


if __name__ == "__main__":
    main()

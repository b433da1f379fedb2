"""Command line of the training code.

::

    python -m training pretrain RECIPE --data DIR --out RUN [--resume]
    python -m training finetune RECIPE --data DIR --out RUN [--hold-out PATIENT] [--resume]
                                [--pretrained RUN]
    python -m training export RUN... --out MODEL --version 1 --threshold 0.45
    python -m training evaluate MODEL --data DIR [--patient PATIENT]
"""

# SimpleITK types only some of its methods.
# mypy: disable-error-code="no-untyped-call"

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import SimpleITK as sitk  # noqa: N813 - the name its manual uses
import structlog
import torch

from pipeline.weights import choose_device, load_model
from training.config import CASES_FOLDER, read_finetune_recipe, read_pretrain_recipe
from training.data import read_labelled
from training.evaluate import measure_slice, summarize
from training.export import ModelDescription, export
from training.finetune import finetune
from training.pretrain import pretrain
from training.unlabelled import read_unlabelled

log = structlog.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_pretrain(commands.add_parser("pretrain", help="train an encoder without labels"))
    _add_finetune(commands.add_parser("finetune", help="train a segmenter"))
    _add_export(commands.add_parser("export", help="write a model folder"))
    _add_evaluate(commands.add_parser("evaluate", help="compare a model with drawn slices"))
    parsed = parser.parse_args(arguments)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    parsed.run(parsed)


def _add_pretrain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--resume", action="store_true")
    parser.set_defaults(run=_pretrain)


def _pretrain(parsed: argparse.Namespace) -> None:
    recipe = read_pretrain_recipe(parsed.recipe)
    unlabelled = read_unlabelled(parsed.data, recipe.image_list)
    pretrain(recipe, unlabelled, parsed.out, parsed.resume)


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--pretrained", type=Path, metavar="RUN")
    parser.add_argument("--hold-out", action="append", default=[], metavar="PATIENT")
    parser.add_argument("--resume", action="store_true")
    parser.set_defaults(run=_finetune)


def _finetune(parsed: argparse.Namespace) -> None:
    changes: dict[str, Any] = {"held_out": parsed.hold_out} if parsed.hold_out else {}
    if parsed.pretrained:
        changes["pretrained"] = str(parsed.pretrained / "checkpoint.pt")
    recipe = read_finetune_recipe(parsed.recipe, changes)
    finetune(recipe, read_labelled(parsed.data, recipe.case_list), parsed.out, parsed.resume)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="smit_l3")
    parser.add_argument("--version", required=True)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--cases", type=Path, default=CASES_FOLDER / "labelled_l3.toml")
    parser.set_defaults(run=_export)


def _export(parsed: argparse.Namespace) -> None:
    data = tomllib.loads(parsed.cases.read_text()).get("provenance", {})
    description = ModelDescription(parsed.name, parsed.version, parsed.threshold, data=data)
    manifest = export([run / "checkpoint.pt" for run in parsed.runs], description, parsed.out)
    log.info("exported", folder=str(parsed.out), files=len(manifest["files"]))


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=Path, default=CASES_FOLDER / "labelled_l3.toml")
    parser.add_argument("--patient", action="append", default=[])
    parser.add_argument("--threshold", type=float, action="append", default=[])
    parser.add_argument("--threads", type=int, default=1)
    parser.set_defaults(run=_evaluate)


def _evaluate(parsed: argparse.Namespace) -> None:
    torch.set_num_threads(parsed.threads)
    model = load_model(parsed.model, choose_device())
    slices = read_labelled(parsed.data, parsed.cases)
    wanted = [s for s in slices if not parsed.patient or s.patient in parsed.patient]
    thresholds = parsed.threshold or [model.threshold]
    rows = [measure_slice(model, labelled, thresholds) for labelled in wanted]
    for threshold, results in zip(thresholds, zip(*rows, strict=True), strict=True):
        for result in results:
            log.debug("slice", **asdict(result), error_percent=result.error_percent)
        log.info("summary", threshold=threshold, **asdict(summarize(results)))


if __name__ == "__main__":
    main()

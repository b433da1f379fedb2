"""Subcommands for published weights, the paper's table and the speed of loading."""

import argparse
import json
from pathlib import Path
from typing import Any

import structlog

from training.benchmark import compare, describe
from training.config import read_finetune_recipe
from training.data import read_labelled
from training.published import import_published
from training.split import read_people
from training.table import measure_table, train_table

log = structlog.get_logger(__name__)


def add_commands(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    """Add ``import-weights``, ``table`` and ``benchmark``."""
    _add_import(commands.add_parser("import-weights", help="start from published SMIT weights"))
    _add_table(commands.add_parser("table", help="cross-validate as the paper's Table 3"))
    _add_benchmark(commands.add_parser("benchmark", help="samples per second, ours and MONAI's"))


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="for finetune --pretrained")
    parser.add_argument("--volumes", action="store_true", help="keep three dimensions")
    parser.set_defaults(run=_import)


def _import(parsed: argparse.Namespace) -> None:
    network = import_published(parsed.file, parsed.out, slices=not parsed.volumes)
    (parsed.out / "network.json").write_text(json.dumps(network, indent=1) + "\n")
    log.info("for the recipe", **network)


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=Path, help="case list instead of the recipe's")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the split")
    parser.add_argument("--pretrained", type=Path, metavar="RUN")
    parser.add_argument("--jobs", type=int, default=1, help="folds trained at a time")
    parser.set_defaults(run=_table)


def _table(parsed: argparse.Namespace) -> None:
    cases = parsed.cases or read_finetune_recipe(parsed.recipe).case_list
    arguments = [str(parsed.recipe), "--data", str(parsed.data), "--cases", str(cases)]
    if parsed.pretrained:
        arguments += ["--pretrained", str(parsed.pretrained)]
    people = read_people(cases)
    dealt = train_table(people, parsed.folds, parsed.seed, arguments, parsed.out, parsed.jobs)
    measure_table(dealt, read_labelled(parsed.data, cases), parsed.out)
    log.info("table written", path=str(parsed.out / "table.md"))


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=Path, help="case list; by default cases.toml in the folder")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--helpers", type=int, default=0)
    parser.add_argument("--train", type=Path, metavar="RECIPE", help="time fine-tuning too")
    parser.set_defaults(run=_benchmark)


def _benchmark(parsed: argparse.Namespace) -> None:
    slices = read_labelled(parsed.data, parsed.cases or parsed.data / "cases.toml")
    recipe = read_finetune_recipe(parsed.train) if parsed.train else None
    log.info(describe(compare(slices, parsed.samples, parsed.helpers, recipe)))

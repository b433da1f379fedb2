"""The options that many commands share, and their exit statuses."""

from enum import IntEnum
from pathlib import Path
from typing import Annotated, Final

import typer


class Exit(IntEnum):
    """Exit statuses of every command; misuse of the command line is 2."""

    DONE = 0
    FAILED = 1
    """The command says why, with a code."""
    NOTHING = 3
    """The answer is no: not measured, not found, nothing to do."""
    UNFINISHED = 4
    """The time that the command was given is over."""


ConfigOption = Annotated[
    Path, typer.Option("--config", envvar="PSOAS_CONFIG", help="Settings file (TOML).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
BecauseOption = Annotated[
    str, typer.Option("--because", help="Why, for the history; name no patient.")
]
UidsArgument = Annotated[list[str] | None, typer.Argument(help="Series Instance UIDs.")]
DEFAULT_CONFIG: Final = Path("node.toml")

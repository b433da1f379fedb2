"""Every command speaks to machines, and the shell knows all of them."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.main import get_command

from dicom_node.cli import app

PROCESSES = {
    *("serve", "worker", "console", "demo", "flower", "pull", "send"),
    *("analyse", "conformance", "validate"),
}
"""They run until they are stopped, or write files: their answer is the exit status."""
ASKED_OF_PEOPLE = {"user add", "user remove"}


def commands() -> Iterator[tuple[str, set[str]]]:
    """Yield the name and the options of every command."""
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        named = {name: command} if below is None else {f"{name} {n}": c for n, c in below.items()}
        for full_name, one in named.items():
            yield full_name, {option for p in one.params for option in p.opts}


def test_every_command_that_tells_something_prints_json_for_machines() -> None:
    silent = {name for name, options in commands() if "--json" not in options}
    assert silent == PROCESSES | ASKED_OF_PEOPLE


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("psoas ", {"replay", "catch-up", "model", "shadow", "where", "drain", "rules"}),
        ("psoas model ", {"list", "add", "use", "rollback"}),
        ("psoas shadow ", {"report"}),
        ("psoas rules ", {"test", "check"}),
        ("psoas replay --no", {"--no-delivery"}),
        ("psoas retry --state f", {"failed"}),
    ],
)
def test_the_shell_completes(typed: str, expected: set[str]) -> None:
    environment = os.environ | {
        "_PSOAS_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split(" ")) - 1),
    }
    program = "import sys; sys.argv[0] = 'psoas'; from dicom_node.cli import main; main()"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert expected <= set(answer.stdout.split())

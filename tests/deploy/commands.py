"""Whether the command line understands what a manifest says."""

from collections.abc import Sequence

from typer.main import get_command

from dicom_node.cli import app


def understands(words: Sequence[str]) -> bool:
    """Parse ``psoas ...`` as the program does, without running anything.

    Raises
    ------
    click.UsageError
        There is no such command, option or choice.
    """
    program, *rest = words
    assert program.rpartition("/")[2] == "psoas", words
    group = get_command(app)
    with group.make_context("psoas", list(rest), resilient_parsing=False) as context:
        name, command, arguments = group.resolve_command(context, context._protected_args)  # type: ignore[attr-defined]
        with command.make_context(name, [*arguments, *context.args], parent=context):
            return True

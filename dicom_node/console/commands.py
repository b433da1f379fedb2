"""The commands of the console: run it, and say who may use it.

Nothing of the web is imported here until a command runs: the command line needs none of it.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from dicom_node.commands.options import JsonOption
from dicom_node.config import load_settings

_CONFIG: Final = Path("node.toml")
_Config = Annotated[
    Path, typer.Option("--config", envvar="PSOAS_CONFIG", help="Settings file (TOML).")
]
_Name = Annotated[str, typer.Argument(help="Name to log in with.")]

user_commands = typer.Typer(help="Say who may use the console.", no_args_is_help=True)


class RoleName(StrEnum):
    """What a person may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"


def console(config: _Config = _CONFIG) -> None:
    """Serve the web page for administrators, until Ctrl-C."""
    from dicom_node.console.server import run_console
    from dicom_node.logs import configure_logs

    settings = load_settings(config)
    configure_logs(settings.log)
    run_console(settings)


@user_commands.command()
def add(
    name: _Name,
    role: Annotated[
        RoleName, typer.Option(help="A viewer looks, an operator also acts and finds patients.")
    ] = RoleName.VIEWER,
    config: _Config = _CONFIG,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Add a person, or give one another role and password.

    Example: psoas user add anna --role operator
    """
    from dicom_node.audit import audit_command
    from dicom_node.console.users import Role, UserFile

    if password_stdin:
        password = typer.get_text_stream("stdin").readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    settings = load_settings(config)
    audit_command(settings, f"{name} may log in to the console as {role.value}")
    UserFile.of(settings.storage.folder).put(name, Role.of(role.value), password)
    typer.echo(f"{name} may log in as {role.value}")


@user_commands.command()
def remove(name: _Name, config: _Config = _CONFIG) -> None:
    """Take a person out; whoever is logged in under that name is out at once."""
    from dicom_node.audit import audit_command
    from dicom_node.console.users import UserFile

    settings = load_settings(config)
    audit_command(settings, f"{name} may not log in to the console any more")
    UserFile.of(settings.storage.folder).remove(name)
    typer.echo(f"{name} may not log in any more")


@user_commands.command("list")
def list_users(config: _Config = _CONFIG, as_json: JsonOption = False) -> None:
    """List who may log in."""
    import json

    from dicom_node.console.users import UserFile

    users = UserFile.of(load_settings(config).storage.folder).users().values()
    if as_json:
        typer.echo(json.dumps([{"name": user.name, "role": user.role.label} for user in users]))
        return
    for user in users:
        typer.echo(f"{user.name}  {user.role.label}")

"""Commands about the version of the ledger's tables."""

from typing import Annotated

import typer

from dicom_node.commands.options import DEFAULT_CONFIG, ConfigOption, JsonOption


def version(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show the revision of the ledger's tables."""
    from dicom_node.config import load_settings
    from dicom_node.database import schema_version
    from dicom_node.reports import print_json

    revision = schema_version(load_settings(config).ledger_url)
    if as_json:
        print_json({"revision": revision})
    else:
        typer.echo(revision or "there are no tables yet")


def downgrade(
    to: Annotated[str, typer.Option(help="Version of Psoas that is to use the ledger, as 0.1.")],
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take the ledger back to an earlier version. Stop every process first, and back it up.

    Upgrading needs no command: the first process of a newer version does it.
    """
    from dicom_node.audit import audit_command
    from dicom_node.config import load_settings
    from dicom_node.ledger_versions import take_back
    from dicom_node.reports import print_json

    settings = load_settings(config)
    if not yes:
        typer.confirm("has every process stopped, and is there a backup?", abort=True, err=True)
    audit_command(settings, f"ledger downgrade to {to}")
    revision = take_back(settings.ledger_url, to)
    if as_json:
        print_json({"revision": revision})
    else:
        typer.echo(f"the ledger is at {revision} now; install version {to} before you start it")


def register(app: typer.Typer) -> None:
    """Add these commands below ``psoas ledger``."""
    group = typer.Typer(help="Version of the ledger, and a way back.", no_args_is_help=True)
    group.command()(version)
    group.command()(downgrade)
    app.add_typer(group, name="ledger")

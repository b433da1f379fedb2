"""Run Flower, Celery's own monitor, at our broker: it sees UIDs, nothing else of patients."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from dicom_node.celery_app import create_app
from dicom_node.config import NodeSettings
from dicom_node.errors import MissingExtraError, SettingsError
from dicom_node.secret_files import read_secret

_HOST: Final = "127.0.0.1"


def run_flower(
    settings: NodeSettings, port: int, login_file: Path | None, *, control: bool
) -> None:
    """Serve Flower on loopback until SIGTERM or SIGINT.

    Parameters
    ----------
    settings : NodeSettings
    port : int
        TCP port.
    login_file : Path or None
        Holds NAME:PASSWORD, which its pages and its API ask for; without one the API is closed.
    control : bool
        Whether it may stop workers and revoke tasks. The ledger notices and sends work again.

    Raises
    ------
    MissingExtraError
        Flower is not installed.
    SettingsError
        The file cannot be read or holds something else.
    """
    # Celery finds it by its entry point.
    if find_spec("flower") is None:
        raise MissingExtraError("Flower needs the package flower; install psoas[flower]")
    if login_file is not None:
        login = read_secret(login_file, "--login-file")
        if ":" not in login:
            raise SettingsError(f"--login-file: {login_file} must hold NAME:PASSWORD")
        # Not an argument, which every list of processes shows.
        os.environ["FLOWER_BASIC_AUTH"] = login
    words = ["flower", f"--address={_HOST}", f"--port={port}"]
    create_app(settings).start([*words, f"--read_only={not control}"])

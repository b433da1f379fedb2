"""Read a settings file, with the secrets of the files that it names."""

import os
import tomllib
from pathlib import Path

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from dicom_node.config.node import NodeSettings
from dicom_node.config.supervision import AlarmSettings
from dicom_node.errors import SettingsError
from dicom_node.secret_files import (
    credentials_folder,
    read_secret,
    require_password,
    with_files_found,
    with_password,
)


def load_settings(path: Path) -> NodeSettings:
    """Read a settings file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    NodeSettings
        With absolute paths, relative ones starting at the file, and with the secrets of its files.

    Raises
    ------
    SettingsError
        With every fault of the file, one sentence each.
    UnguardedError
        Others can reach the broker without a password.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        settings = NodeSettings.model_validate(data)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        faults = "; ".join(_fault(detail) for detail in error.errors())
        raise SettingsError(f"{path}: {faults}") from None
    folder = path.resolve().parent
    found = with_files_found(settings, folder, credentials_folder(os.environ))
    complete = _with_secrets(found, path)
    if complete.broker.url is not None:
        require_password(complete.broker.url)
    return complete


def _with_secrets(settings: NodeSettings, path: Path) -> NodeSettings:
    storage, broker, alarms = settings.storage, settings.broker, settings.alarms
    if (file := storage.ledger_password_file) is not None:
        secret = read_secret(file, f"{path}: storage.ledger_password_file")
        url = with_password(storage.ledger_url or "", secret)
        storage = storage.model_copy(update={"ledger_url": url})
    if (file := broker.password_file) is not None:
        secret = read_secret(file, f"{path}: broker.password_file")
        broker = broker.model_copy(update={"url": with_password(broker.url or "", secret)})
    if (file := alarms.webhook_file) is not None:
        address = read_secret(file, f"{path}: alarms.webhook_file")
        alarms = _with_webhook(alarms, address, file)
    return settings.model_copy(update={"storage": storage, "broker": broker, "alarms": alarms})


def _with_webhook(alarms: AlarmSettings, address: str, file: Path) -> AlarmSettings:
    if not address.startswith(("https://", "http://")):
        raise SettingsError(f"alarms.webhook_file: {file} holds no address of http or https")
    return alarms.model_copy(update={"webhook": SecretStr(address)})


def _fault(detail: ErrorDetails) -> str:
    place = ".".join(str(part) for part in detail["loc"]) or "settings"
    return f"{place}: {detail['msg']}"

"""Find the files that settings name, and put what secret files hold where it belongs."""

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from pydantic import BaseModel

from dicom_node.errors import SettingsError, UnguardedError

Section = TypeVar("Section", bound=BaseModel)


def with_files_found(section: Section, folder: Path, credentials: Path | None) -> Section:
    """Make every path of a section, and of those below it, absolute.

    Parameters
    ----------
    section : BaseModel
    folder : Path
        Where relative paths start: that of the settings file.
    credentials : Path or None
        Folder that systemd fills for a service (``LoadCredential=secrets:/etc/psoas/secrets``). A
        relative path that is there, with ``_`` for ``/`` as systemd names it, is taken from it.

    Returns
    -------
    BaseModel
        A copy.
    """
    found: dict[str, object] = {}
    for name, value in section:
        if isinstance(value, Path):
            found[name] = _found(value, folder, credentials)
        elif isinstance(value, BaseModel):
            found[name] = with_files_found(value, folder, credentials)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            found[name] = tuple(with_files_found(one, folder, credentials) for one in value)
    return section.model_copy(update=found)


def read_secret(path: Path, setting: str) -> str:
    """Read a file that holds one secret and perhaps a line end.

    Raises
    ------
    SettingsError
        It cannot be read or is empty. The message quotes nothing of it.
    """
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"{setting}: {path} cannot be read: {cause}") from None
    if not secret:
        raise SettingsError(f"{setting}: {path} is empty")
    return secret


def with_password(url: str, password: str) -> str:
    """Put a password into a URL that has none; into each one of several that ``;`` parts."""
    return ";".join(_with_password(part.strip(), password) for part in url.split(";"))


def require_password(url: str) -> None:
    """Refuse the URL of a broker that others can reach without a password or a certificate.

    Raises
    ------
    UnguardedError
    """
    for part in (urlsplit(part.strip()) for part in url.split(";")):
        is_certified = "ssl_certfile=" in part.query
        if not (part.password or is_certified or _is_here(part)):
            raise UnguardedError(
                f"broker.url: others can reach {part.hostname}, so it must ask for a password: "
                "set requirepass there and broker.password_file here"
            )


def _is_here(url: SplitResult) -> bool:
    if not url.hostname or url.hostname == "localhost":
        return True  # a socket of the file system has no host
    with suppress(ValueError):
        return ip_address(url.hostname).is_loopback
    return False


def _with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    user, _, address = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    netloc = f"{name}:{quote(password, safe='')}@{address}"
    return urlunsplit(parts._replace(netloc=netloc))


def _found(path: Path, folder: Path, credentials: Path | None) -> Path:
    if credentials is not None and not path.is_absolute():
        loaded = credentials / str(path).replace("/", "_")
        if loaded.is_file():
            return loaded
    return (folder / path).resolve()


def credentials_folder(environment: Mapping[str, str]) -> Path | None:
    """Where systemd put what a unit loads; ``None`` outside such a service."""
    named = environment.get("CREDENTIALS_DIRECTORY")
    return None if named is None else Path(named)

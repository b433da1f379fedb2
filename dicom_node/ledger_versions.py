"""Take a ledger back to the tables of an earlier version, before that version is installed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from dicom_node.database import Database, migrate, schema_version
from dicom_node.errors import SettingsError

REVISIONS: Final[Mapping[str, str]] = MappingProxyType({"0.1": "m0001"})
"""Tables of each released version."""


def take_back(url: str, version: str) -> str:
    """Take a ledger back; what the earlier version does not know is forgotten.

    Parameters
    ----------
    url : str
        SQLAlchemy URL. Nothing else may use the ledger meanwhile.
    version : str
        A released version, or a revision.

    Returns
    -------
    str
        The revision that it has now.

    Raises
    ------
    SettingsError
        There is no such version.
    LedgerError
        Nothing was changed.
    """
    revision = REVISIONS.get(version, version)
    if not revision.startswith("m"):
        raise SettingsError(f"no version {version} is known; {', '.join(REVISIONS)} are")
    database = Database.connect(url)
    try:
        database.write(lambda connection: migrate(connection, revision, back=True))
    finally:
        database.close()
    return schema_version(url) or ""

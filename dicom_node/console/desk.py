"""What the pages of one console work with, and who is at it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from starlette.requests import Request

from dicom_node.config import NodeSettings
from dicom_node.console.sessions import Session, Sessions
from dicom_node.console.throttle import Throttle
from dicom_node.console.users import UserFile
from dicom_node.ledger import Ledger
from dicom_node.spool import Spool


class Audit(Protocol):
    """Writes what a person did to the audit trail."""

    def __call__(
        self,
        person: "Person",
        deed: str,
        studies: tuple[str, ...] = (),
        *,
        succeeded: bool = True,
        description: str = "",
    ) -> None:
        """Write one deed.

        Parameters
        ----------
        person : Person
        deed : str
            ``logged_in``, ``logged_out``, ``viewed`` or ``changed``.
        studies : tuple of str
            Study Instance UIDs that it was done to.
        succeeded : bool
            ``False`` also for what the person was not allowed to do.
        description : str
            One sentence without values of the patient.
        """


@dataclass(frozen=True, slots=True)
class Person:
    """Who is at the console.

    Parameters
    ----------
    account : str
    address : str
        Where the request came from.
    """

    account: str
    address: str


@dataclass(frozen=True, slots=True)
class Desk:
    """What every page needs.

    Parameters
    ----------
    settings : NodeSettings
    ledger : Ledger
    spool : Spool
    users : UserFile
    sessions : Sessions
    by_name, by_address : Throttle
        Count failed logins.
    audit : Audit
    clock : callable
        Returns the time in UTC.
    """

    settings: NodeSettings
    ledger: Ledger
    spool: Spool
    users: UserFile
    sessions: Sessions
    by_name: Throttle
    by_address: Throttle
    audit: Audit
    clock: Callable[[], datetime]


def session_of(request: Request) -> Session:
    """Session of a request that the guard let through."""
    session = request.scope["psoas.session"]
    assert isinstance(session, Session)  # noqa: S101 - the guard has put it there
    return session


def person_of(request: Request) -> Person:
    """Who made a request that the guard let through."""
    return Person(session_of(request).user, address_of(request))


def address_of(request: Request) -> str:
    """IP address that a request came from, empty when unknown."""
    return "" if request.client is None else request.client.host

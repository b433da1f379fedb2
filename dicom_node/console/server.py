"""Run the console until it is told to stop."""

from contextlib import closing
from datetime import UTC, datetime

import structlog
import uvicorn

from dicom_node.audit import record_user_action
from dicom_node.audit_events import User, UserAction
from dicom_node.config import NodeSettings
from dicom_node.console.app import build_app
from dicom_node.console.desk import Audit, Desk, Person
from dicom_node.console.sessions import Sessions
from dicom_node.console.throttle import Throttle
from dicom_node.console.users import UserFile
from dicom_node.ledger import Ledger
from dicom_node.spool import Spool

logger = structlog.get_logger(__name__)

_WINDOW_S = 900.0
_FAILURES_OF_A_NAME = 5
_FAILURES_OF_AN_ADDRESS = 30


def run_console(settings: NodeSettings) -> None:
    """Serve the console until SIGTERM or SIGINT.

    Raises
    ------
    LedgerError
        The ledger cannot be opened.
    """
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        here = settings.console
        app = build_app(make_desk(settings, ledger))
        logger.info("console", url=here.reached_at, host=here.host, port=here.port)
        uvicorn.run(
            app,
            host=here.host,
            port=here.port,
            log_config=None,
            # Addresses hold UIDs of people's studies; the audit trail says who looked at what.
            access_log=False,
            server_header=False,
            ssl_certfile=here.tls_certificate,
            ssl_keyfile=here.tls_key,
        )


def make_desk(settings: NodeSettings, ledger: Ledger) -> Desk:
    """Collect what the pages of a console work with."""
    here = settings.console
    return Desk(
        settings=settings,
        ledger=ledger,
        spool=Spool.of(settings.storage),
        users=UserFile.of(settings.storage.folder),
        sessions=Sessions(utc_now, here.session_idle_s, here.session_longest_s),
        by_name=Throttle(utc_now, _FAILURES_OF_A_NAME, _WINDOW_S),
        by_address=Throttle(utc_now, _FAILURES_OF_AN_ADDRESS, _WINDOW_S),
        audit=audit_of(settings),
        clock=utc_now,
    )


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def audit_of(settings: NodeSettings) -> Audit:
    """Return the way into the audit trail of a node; it raises ``AuditError`` when that is shut."""

    def audit(
        person: Person,
        deed: str,
        studies: tuple[str, ...] = (),
        *,
        succeeded: bool = True,
        description: str = "",
    ) -> None:
        record_user_action(
            settings,
            User(person.account, address=person.address),
            UserAction[deed.upper()],
            studies,
            succeeded=succeeded,
            description=description,
        )

    return audit

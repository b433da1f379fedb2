"""Tell people of alarms: by webhook, by e-mail."""

import json
import smtplib
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final
from urllib.error import HTTPError

from dicom_node.config import AlarmSettings
from dicom_node.errors import AlarmChannelError

_TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class News:
    """One alarm that was raised or is over.

    Parameters
    ----------
    code, subject, message : str
    is_over : bool
    """

    code: str
    subject: str
    message: str
    is_over: bool

    @property
    def line(self) -> str:
        """One line for people."""
        return f"{'over' if self.is_over else 'ALARM'} {self.code} ({self.subject}): {self.message}"


Channel = Callable[[str, Sequence[News]], None]
"""Tells people; takes the AE title of the node and the news; raises ``AlarmChannelError``."""


def channels(settings: AlarmSettings) -> dict[str, Channel]:
    """Return every channel that the settings name."""
    made: dict[str, Channel] = {}
    if settings.webhook is not None:
        url = settings.webhook.get_secret_value()
        made["webhook"] = lambda node, news: post(url, node, news)
    if settings.mail_to:
        made["mail"] = lambda node, news: mail(settings, node, news)
    return made


def post(url: str, node: str, news: Sequence[News]) -> None:
    """Post news as JSON; ``text`` is what chat services show.

    Raises
    ------
    AlarmChannelError
        The address does not answer with success. The message does not quote it: it holds a secret.
    """
    body = {
        "node": node,
        "text": "\n".join(f"Psoas {node}: {one.line}" for one in news),
        "alarms": [
            {
                "code": one.code,
                "subject": one.subject,
                "message": one.message,
                "state": "over" if one.is_over else "raised",
            }
            for one in news
        ],
    }
    request = urllib.request.Request(  # noqa: S310 - the settings take http and https alone
        url, json.dumps(body).encode(), {"content-type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310
            pass
    except HTTPError as error:
        with error:
            raise AlarmChannelError(f"the webhook answers {error.code}") from None
    except (OSError, ValueError) as error:
        raise AlarmChannelError(f"the webhook does not take alarms: {_cause(error)}") from None


def mail(settings: AlarmSettings, node: str, news: Sequence[News]) -> None:
    """Send news as one e-mail.

    Raises
    ------
    AlarmChannelError
    """
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = ", ".join(settings.mail_to)
    raised = sum(not one.is_over for one in news)
    subject = news[0].line if len(news) == 1 else f"{raised} alarms, {len(news) - raised} over"
    message["Subject"] = f"Psoas {node}: {subject}"
    message.set_content("\n".join(one.line for one in news) + "\n")
    try:
        with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=_TIMEOUT_S) as server:
            if settings.smtp_tls:
                server.starttls()
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise AlarmChannelError(f"the mail server does not take alarms: {_cause(error)}") from None


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__

"""Make pages of templates, with words and forms for what the ledger holds."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from dicom_node import __version__
from dicom_node.console.desk import Desk, session_of
from dicom_node.console.users import Role

_PAGES: Final = (
    ("/", "Overview"),
    ("/series", "Series"),
    ("/peers", "Peers"),
    ("/trends", "Trends"),
)
_STEPS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))

_EVENTS: Final = {
    "instance_stored": "Images began to arrive",
    "conflict_found": "A conflict was found",
    "quiet_period_over": "The quiet period was over",
    "not_eligible": "Not a series for us",
    "task_sent": "Sent to a worker",
    "work_started": "A worker began",
    "work_lost": "The work was lost",
    "work_failed": "The work failed",
    "attempts_exhausted": "All attempts were used up",
    "images_unusable": "The images cannot be used",
    "measured": "Measured",
    "not_measurable": "It cannot be measured",
    "delivery_started": "Delivery began",
    "all_delivered": "Everything was delivered",
    "delivery_abandoned": "Delivery was given up",
    "retry_requested": "Asked for once more",
    "replay_requested": "To be measured again, by other weights",
    "released": "Released from quarantine",
    "dropped": "Dropped",
    "completion_forced": "Waiting for images was ended",
    "delivery_resumed": "Sending began again",
    "delivery_committed": "A PACS took responsibility for a result",
    "delivery_refused": "A PACS refused a result",
    "some_refused": "Some results were refused",
    "images_released": "Its images were deleted by retention",
    "delivery_accepted": "A PACS took a result",
    "delivery_queued": "A PACS did not take a result for now",
    "delivery_dead": "A PACS refused a result",
}


class Renderer:
    """Renders the templates of this package.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._environment = Environment(
            loader=PackageLoader("dicom_node.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            time=time_element, span=span, event=event_words, thousands=thousands
        )
        self._environment.globals.update(
            version=__version__, Role=Role, pages_of_the_console=_PAGES, search_kind="uid"
        )

    def page(
        self,
        request: Request,
        template: str,
        values: Mapping[str, Any] | None = None,
        status: int = 200,
    ) -> HTMLResponse:
        """Render a page for somebody who is logged in.

        Parameters
        ----------
        request : Request
        template : str
        values : mapping, optional
            What the template shows.
        status : int
            Of HTTP.
        """
        session = session_of(request)
        return self._render(
            template, {"session": session, "path": request.url.path, **(values or {})}, status
        )

    def open_page(
        self, template: str, values: Mapping[str, Any], status: int = 200
    ) -> HTMLResponse:
        """Render a page for somebody who is not logged in."""
        return self._render(template, {"session": None, "path": "", **values}, status)

    def _render(self, template: str, values: Mapping[str, Any], status: int) -> HTMLResponse:
        text = self._environment.get_template(template).render(
            now=self._desk.clock(), node=self._desk.settings.listener.ae_title, **values
        )
        return HTMLResponse(text, status)


def time_element(moment: datetime | None) -> Markup:
    """Show a time in UTC; the script of the page adds the local one."""
    if moment is None:
        return Markup("&ndash;")
    template = Markup('<time datetime="{}">{} UTC</time>')
    return template.format(moment.isoformat(), f"{moment:%Y-%m-%d %H:%M:%S}")


def span(length: timedelta) -> str:
    """Show how long something took in its two largest units."""
    seconds = max(int(length.total_seconds()), 0)
    parts: list[str] = []
    for size, unit in _STEPS:
        count, seconds = divmod(seconds, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def event_words(event: str) -> str:
    """Say what happened; an event without words here is shown by its name."""
    return _EVENTS.get(event, event.replace("_", " ").capitalize())


def thousands(number: int) -> str:
    """Show a number in groups of three digits."""
    return f"{number:,}".replace(",", " ")

"""The pages that show: what is going on, which series there are, what happened to one of them."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from dicom_node.console.actions import possible_actions
from dicom_node.console.desk import Desk, person_of, session_of
from dicom_node.console.readings import readings
from dicom_node.console.rendering import Renderer
from dicom_node.console.users import Role
from dicom_node.console.workboard import Workboard
from dicom_node.errors import UnknownSeriesError
from dicom_node.inspection import Account, account_of
from dicom_node.ledger_queries import (
    Place,
    SeriesFilter,
    arrivals,
    series_page,
    series_with_keys,
    series_with_uid,
    waiting_before,
)
from dicom_node.records import UNDER_WAY, SeriesRecord, SeriesState
from dicom_node.search_keys import SearchAttribute, typed_keys
from dicom_node.uids import is_uid

_PAGE_SIZE: Final = 50
_LATEST: Final = 12
_TROUBLE: Final = (SeriesState.QUARANTINED, SeriesState.FAILED)
_ENDED: Final = tuple(state for state in SeriesState if state not in UNDER_WAY)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Parameters
    ----------
    series : tuple of SeriesRecord
    complaint : str
        Why nothing was looked for; empty otherwise.
    """

    series: tuple[SeriesRecord, ...] = ()
    complaint: str = ""


class Pages:
    """The pages of one console.

    Parameters
    ----------
    desk : Desk
    renderer : Renderer
    """

    def __init__(self, desk: Desk, renderer: Renderer) -> None:
        self._desk = desk
        self._renderer = renderer
        self._workboard = Workboard(desk.settings)

    def overview(self, request: Request) -> Response:
        """Show the queues now and what moved last."""
        ledger = self._desk.ledger
        values = {
            "counts": ledger.counts(),
            "switches": tuple(ledger.switches().values()),
            "alarms": ledger.alarms.standing(),
            "models": ledger.models.active(),
            "moving": UNDER_WAY,
            "ended": _ENDED,
            "trouble": _TROUBLE,
            "latest": ledger.read(partial(series_page, wanted=SeriesFilter(), size=_LATEST)).series,
        }
        return self._renderer.page(request, "overview.html", values)

    def workers(self, request: Request) -> Response:
        """Show workers and queues now; the overview takes this page in."""
        return self._renderer.page(request, "workers.html", {"board": self._workboard.board()})

    def series_list(self, request: Request) -> Response:
        """List series, page by page."""
        wanted = _filter_of(request.query_params)
        older, newer = _places(request.query_params)
        query = partial(
            series_page, wanted=wanted, size=_PAGE_SIZE, older_than=older, newer_than=newer
        )
        listed = self._desk.ledger.read(query)
        values = {
            "wanted": wanted,
            "listed": listed,
            "states": tuple(SeriesState),
            "older": _address(wanted, older=listed.older),
            "newer": _address(wanted, newer=listed.newer),
        }
        return self._renderer.page(request, "series_list.html", values)

    def series(self, request: Request) -> Response:
        """Show everything that is known of one series."""
        account = self._account(request)
        record = account.series
        read = self._desk.ledger.read
        self._desk.audit(person_of(request), "viewed", (record.study_instance_uid,))
        values = {
            "account": account,
            "record": record,
            "arrivals": read(partial(arrivals, series_instance_uid=record.series_instance_uid)),
            "waiting": read(partial(waiting_before, record=record)),
            "siblings": self._siblings(record),
            "readings": readings(record.series_instance_uid, self._desk.ledger),
            "picture": self._picture(account) is not None,
            "actions": possible_actions(record, session_of(request).role),
            "done": request.query_params.get("done") == "1",
        }
        return self._renderer.page(request, "series.html", values)

    def picture(self, request: Request) -> Response:
        """Return the picture of the measured slice with its mask."""
        path = self._picture(self._account(request))
        if path is None:
            raise HTTPException(404, "there is no picture of this series")
        return FileResponse(path, media_type="image/png")

    def search(self, request: Request, form: FormData) -> Response:
        """Look for series by what was typed; it stands in no address and in no log."""
        typed = str(form.get("term", "")).strip()[:64]
        kind = str(form.get("kind", "uid"))
        found = self._find(request, kind, typed)
        values = {"found": found, "search_kind": kind}
        return self._renderer.page(request, "search.html", values)

    def _find(self, request: Request, kind: str, typed: str) -> Found:
        if not typed:
            return Found(complaint="Type what to look for.")
        if kind == "uid":
            if not is_uid(typed):
                return Found(complaint="A UID has digits and dots only.")
            return Found(self._desk.ledger.read(partial(series_with_uid, uid=typed)))
        if session_of(request).role < Role.OPERATOR:
            raise HTTPException(403, "searching by patient needs the role operator")
        attribute = SearchAttribute(kind) if kind in set(SearchAttribute) else None
        if attribute is None:
            raise HTTPException(400, "there is no such search")
        keys = typed_keys(attribute, typed, self._desk.spool.patient_secret())
        found = self._desk.ledger.read(partial(series_with_keys, keys=keys))
        studies = tuple(dict.fromkeys(record.study_instance_uid for record in found))
        self._desk.audit(
            person_of(request), "viewed", studies, description=f"searched by {attribute.label}"
        )
        return Found(found)

    def _account(self, request: Request) -> Account:
        uid = request.path_params["uid"]
        if not is_uid(uid):
            raise HTTPException(404, "there is no such series")
        try:
            self._desk.ledger.series(uid)
            return account_of(uid, self._desk.ledger, self._desk.settings)
        except UnknownSeriesError:
            raise HTTPException(404, "the ledger has no such series") from None

    def _siblings(self, record: SeriesRecord) -> tuple[SeriesRecord, ...]:
        of_study = self._desk.ledger.read(partial(series_with_uid, uid=record.study_instance_uid))
        own = record.series_instance_uid
        return tuple(other for other in of_study if other.series_instance_uid != own)

    def _picture(self, account: Account) -> Path | None:
        record = account.series
        path = self._desk.spool.picture(record.series_instance_uid, record.revision)
        return path if account.measurement and path.is_file() else None


def _filter_of(query: QueryParams) -> SeriesFilter:
    state = query.get("state") or None
    if state is not None and state not in set(SeriesState):
        raise HTTPException(400, "there is no such state")
    return SeriesFilter(
        state=None if state is None else SeriesState(state),
        source_ae_title=query.get("source", "").strip()[:16] or None,
        reason_code=query.get("reason", "").strip()[:32] or None,
    )


def _places(query: QueryParams) -> tuple[Place | None, Place | None]:
    """Read where a page ends or begins, as ``_address`` wrote it."""
    return _place(query.get("before")), _place(query.get("after"))


def _place(text: str | None) -> Place | None:
    if text is None:
        return None
    moment, _, uid = text.partition("_")
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        raise HTTPException(400, "there is no such page") from None
    if at.tzinfo is None or not is_uid(uid):
        raise HTTPException(400, "there is no such page")
    return Place(at, uid)


def _address(
    wanted: SeriesFilter, *, older: Place | None = None, newer: Place | None = None
) -> str | None:
    place = older or newer
    if place is None:
        return None
    query: dict[str, Any] = {
        "state": wanted.state,
        "source": wanted.source_ae_title,
        "reason": wanted.reason_code,
        "before" if older else "after": (
            f"{place.first_received_at.isoformat()}_{place.series_instance_uid}"
        ),
    }
    return "/series?" + urlencode({name: value for name, value in query.items() if value})

"""What operators do with a series: each deed is confirmed first and audited."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicom_node.administration import Order, drop_series, force_completion, release_series
from dicom_node.console.desk import Desk, person_of
from dicom_node.console.rendering import Renderer
from dicom_node.console.users import Role
from dicom_node.errors import NodeError, UnknownSeriesError
from dicom_node.inspection import retry_series
from dicom_node.records import TRANSITIONS, SeriesEvent, SeriesRecord
from dicom_node.uids import is_uid


@dataclass(frozen=True, slots=True)
class Action:
    """Something that can be done with a series.

    Parameters
    ----------
    name : str
        In addresses.
    label : str
        On buttons.
    meaning : str
        One sentence on what will happen.
    event : SeriesEvent
        The step of a series that it takes; it is possible where the step is.
    run : callable
        Does it, with Series Instance UID, desk and order.
    is_grave : bool
        Something is given up by it.
    """

    name: str
    label: str
    meaning: str
    event: SeriesEvent
    run: Callable[[str, Desk, Order], object]
    is_grave: bool = False


def _retry(uid: str, desk: Desk, _order: Order) -> object:
    return retry_series(uid, desk.ledger, desk.settings)


def _release(uid: str, desk: Desk, order: Order) -> object:
    return release_series(uid, desk.ledger, order)


def _force(uid: str, desk: Desk, order: Order) -> object:
    return force_completion(uid, desk.ledger, order)


def _drop(uid: str, desk: Desk, order: Order) -> object:
    return drop_series(uid, desk.ledger, order)


def _resend(uid: str, desk: Desk, order: Order) -> object:
    return desk.ledger.deliveries.resume(None, order.at, uid)


ACTIONS: Final = (
    Action(
        "release",
        "Release",
        "The series is analysed as it is, although something about it is contradictory.",
        SeriesEvent.RELEASED,
        _release,
    ),
    Action(
        "force",
        "Wait no longer",
        "The series counts as complete now: images that come later start a new revision.",
        SeriesEvent.COMPLETION_FORCED,
        _force,
    ),
    Action(
        "retry",
        "Analyse again",
        "The series is analysed once more as if it had just arrived, and its results are sent.",
        SeriesEvent.RETRY_REQUESTED,
        _retry,
    ),
    Action(
        "resend",
        "Send again",
        "Every result of this series that a destination refused, or did not take in time, is sent "
        "to it again.",
        SeriesEvent.DELIVERY_RESUMED,
        _resend,
    ),
    Action(
        "drop",
        "Drop",
        "The series is given up: it is not analysed, and what waits for a PACS is not sent. "
        "Its images stay until their retention is over, and it can be analysed again.",
        SeriesEvent.DROPPED,
        _drop,
        is_grave=True,
    ),
)

_BY_NAME: Final[Mapping[str, Action]] = {action.name: action for action in ACTIONS}


class Actions:
    """The pages that ask for confirmation, and the deeds themselves.

    Parameters
    ----------
    desk : Desk
    renderer : Renderer
    """

    def __init__(self, desk: Desk, renderer: Renderer) -> None:
        self._desk = desk
        self._renderer = renderer

    def confirm(self, request: Request) -> Response:
        """Ask whether it is really meant."""
        action, record = self._wanted(request)
        return self._ask(request, action, record, "")

    def act(self, request: Request, form: FormData) -> Response:
        """Do it, and write down who did."""
        action, record = self._wanted(request)
        uid, person = record.series_instance_uid, person_of(request)
        studies = (record.study_instance_uid,)
        try:
            because = str(form.get("because", "")).strip()[:200]
            action.run(uid, self._desk, Order(person.account, self._desk.clock(), because))
        except NodeError as error:
            description = f"{action.name} of series {uid}: {error.code}"
            self._desk.audit(person, "changed", studies, succeeded=False, description=description)
            return self._ask(request, action, record, f"{error} [{error.code}]", 409)
        self._desk.audit(person, "changed", studies, description=f"{action.name} of series {uid}")
        return RedirectResponse(f"/series/{uid}?done=1", 303)

    def _ask(
        self,
        request: Request,
        action: Action,
        record: SeriesRecord,
        complaint: str,
        status: int = 200,
    ) -> Response:
        values = {
            "action": action,
            "record": record,
            "complaint": complaint,
            "possible": (record.state, action.event) in TRANSITIONS,
        }
        return self._renderer.page(request, "confirm.html", values, status)

    def _wanted(self, request: Request) -> tuple[Action, SeriesRecord]:
        action = _BY_NAME.get(request.path_params["action"])
        uid = request.path_params["uid"]
        if action is None or not is_uid(uid):
            raise HTTPException(404, "there is no such page")
        try:
            return action, self._desk.ledger.series(uid)
        except UnknownSeriesError:
            raise HTTPException(404, "the ledger has no such series") from None


def possible_actions(record: SeriesRecord, role: Role) -> tuple[Action, ...]:
    """Return what somebody of a role may do with a series as it is."""
    if role < Role.OPERATOR:
        return ()
    return tuple(action for action in ACTIONS if (record.state, action.event) in TRANSITIONS)

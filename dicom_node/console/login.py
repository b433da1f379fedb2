"""Log people in with a password, and out again."""

import secrets
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicom_node.console.desk import Desk, Person, address_of, person_of
from dicom_node.console.guard import SESSION_KEY, check_token, form_of, local_path
from dicom_node.console.rendering import Renderer
from dicom_node.console.users import Role

logger = structlog.get_logger(__name__)

_FORM_KEY: Final = "login"
WRONG: Final = "Name or password is wrong."
TOO_MANY: Final = "Too many failed attempts. Wait a quarter of an hour, then try again."


class Login:
    """The login page and what it sends.

    Parameters
    ----------
    desk : Desk
    renderer : Renderer
    """

    def __init__(self, desk: Desk, renderer: Renderer) -> None:
        self._desk = desk
        self._renderer = renderer

    async def show(self, request: Request) -> Response:
        """Show the login page."""
        return self._form(request, request.query_params.get("next"), "")

    async def log_in(self, request: Request) -> Response:
        """Begin a session for somebody whose password is right."""
        form = await form_of(request)
        check_token(request, form, request.session.get(_FORM_KEY, secrets.token_urlsafe()))
        return await run_in_threadpool(self._log_in, request, form)

    def log_out(self, request: Request, _form: FormData) -> Response:
        """End a session."""
        self._desk.sessions.end(str(request.session.get(SESSION_KEY)))
        self._desk.audit(person_of(request), "logged_out")
        request.session.clear()
        return RedirectResponse("/login", 303)

    def _log_in(self, request: Request, form: FormData) -> Response:
        name, password = str(form.get("name", ""))[:64], str(form.get("password", ""))[:1024]
        following = local_path(str(form.get("next", "")))
        person = Person(name, address_of(request))
        # One person's mistakes lock that person out there, not everywhere; an address that
        # tries many names is locked out for all of them.
        by_name, by_address = self._desk.by_name, self._desk.by_address
        if not (by_name.admits(person) and by_address.admits(person.address)):
            return self._form(request, following, TOO_MANY, 429)
        user = self._desk.users.check(name, password)
        if user is None:
            by_name.note(person)
            by_address.note(person.address)
            self._desk.audit(person, "logged_in", succeeded=False, description="wrong password")
            logger.warning("login refused", address=person.address)
            return self._form(request, following, WRONG, 403)
        return begin(self._desk, request, person, user.role, user.stamp, following)

    def _form(
        self, request: Request, following: str | None, complaint: str, status: int = 200
    ) -> Response:
        token = request.session.setdefault(_FORM_KEY, secrets.token_urlsafe(32))
        values = {
            "csrf": token,
            "following": local_path(following),
            "complaint": complaint,
            "oidc": self._desk.settings.console.oidc is not None,
            "has_users": bool(self._desk.users.users()),
        }
        return self._renderer.open_page("login.html", values, status)


def begin(
    desk: Desk, request: Request, person: Person, role: Role, stamp: str | None, following: str
) -> Response:
    """Begin a session under a new name, so that nobody can have planted it before."""
    request.session.clear()
    request.session[SESSION_KEY] = desk.sessions.begin(person.account, role, stamp)
    desk.audit(person, "logged_in")
    return RedirectResponse(following, 303)

"""Stand between the network and the pages: who is let in, and what browsers may do."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.console.desk import Desk, session_of
from dicom_node.console.sessions import Session
from dicom_node.console.users import Role

SESSION_KEY: Final = "name"
"""Where the signed cookie holds the name of the session."""
FORM_FIELD: Final = "csrf"

_OPEN: Final = ("/login", "/oidc/", "/static/", "/health")
_LARGEST_FORM_BYTES: Final = 64 * 1024

_HEADERS: Final = {
    # Nothing but what this host serves: no inline script or style, no frame, no foreign form.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_STRICT_TRANSPORT: Final = "max-age=31536000"

Page = Callable[[Request], Response]
"""Answers a GET; runs in a thread, because the ledger is waited for."""
Deed = Callable[[Request, FormData], Response]
"""Answers a POST whose token was right; runs in a thread."""


class Headers:
    """Adds the headers by which browsers refuse what a page of ours never does.

    Parameters
    ----------
    app : ASGI application
    strict_transport : bool
        Browsers that were here by https never come back without it.
    """

    def __init__(self, app: ASGIApp, *, strict_transport: bool) -> None:
        self._app = app
        self._headers = dict(_HEADERS)
        if strict_transport:
            self._headers["strict-transport-security"] = _STRICT_TRANSPORT

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add to its answer."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                # Pages tell of people: they stay in no cache. Static files say otherwise.
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Guard:
    """Lets nobody in without a session, except to log in.

    Parameters
    ----------
    app : ASGI application
    desk : Desk
    """

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its session, or send it to the login."""
        if scope["type"] != "http" or scope["path"].startswith(_OPEN):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        session = await run_in_threadpool(self._session, request)
        if session is None:
            await _to_login(request)(scope, receive, send)
            return
        scope["psoas.session"] = session
        await self._app(scope, receive, send)

    def _session(self, request: Request) -> Session | None:
        name = request.session.get(SESSION_KEY)
        session = self._desk.sessions.find(name) if isinstance(name, str) else None
        if session is None or session.stamp is None:
            return session
        user = self._desk.users.users().get(session.user)
        # A person who was removed, demoted or given another password is out at once.
        if user is None or (user.stamp, user.role) != (session.stamp, session.role):
            self._desk.sessions.end(str(name))
            return None
        return session


def page(answer: Page, role: Role = Role.VIEWER) -> Callable[[Request], Awaitable[Response]]:
    """Make an endpoint for GET that people of a role may see."""

    async def endpoint(request: Request) -> Response:
        _require(request, role)
        return await run_in_threadpool(answer, request)

    return endpoint


def deed(answer: Deed, role: Role) -> Callable[[Request], Awaitable[Response]]:
    """Make an endpoint for POST that people of a role may do, from a page of ours only."""

    async def endpoint(request: Request) -> Response:
        _require(request, role)
        form = await form_of(request)
        check_token(request, form, session_of(request).csrf)
        return await run_in_threadpool(answer, request, form)

    return endpoint


async def form_of(request: Request) -> FormData:
    """Read a form of a size that ours have.

    Raises
    ------
    HTTPException
        400 or 413.
    """
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise HTTPException(400, "a form says how long it is")
    if int(length) > _LARGEST_FORM_BYTES:
        raise HTTPException(413, "no form of this console is so long")
    return await request.form(max_files=0)


def check_token(request: Request, form: FormData, expected: str) -> None:
    """Refuse a form that no page of ours sent.

    Raises
    ------
    HTTPException
        403.
    """
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    token = form.get(FORM_FIELD)
    right = isinstance(token, str) and hmac.compare_digest(token.encode(), expected.encode())
    if foreign or not right:
        raise HTTPException(403, "this form is too old or comes from elsewhere; load the page anew")


def local_path(path: str | None) -> str:
    """Where to go after the login: a page of ours, whatever the address says."""
    if path is None or not path.startswith("/") or path.startswith(("//", "/\\")):
        return "/"
    return path


def _require(request: Request, role: Role) -> None:
    if session_of(request).role < role:
        raise HTTPException(403, f"this needs the role {role.label}")


def _to_login(request: Request) -> Response:
    if request.method != "GET":
        return RedirectResponse("/login", 303)
    path = request.url.path
    if request.url.query:
        path += f"?{request.url.query}"
    where = "/login" if path == "/" else f"/login?next={quote(path, safe='')}"
    return RedirectResponse(where, 303)

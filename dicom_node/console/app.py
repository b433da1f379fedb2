"""Put the console together: its addresses, its guard, its answers to what goes wrong."""

import secrets
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from typing_extensions import override

from dicom_node.console.actions import Actions
from dicom_node.console.desk import Desk
from dicom_node.console.guard import Guard, Headers, deed, page
from dicom_node.console.insight import Insight
from dicom_node.console.login import Login
from dicom_node.console.pages import Pages
from dicom_node.console.rendering import Renderer
from dicom_node.console.users import Role
from dicom_node.errors import NodeError

logger = structlog.get_logger(__name__)

_STATIC: Final = Path(__file__).parent / "static"
_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")


class _Static(StaticFiles):
    """Files that change with the version only, which their addresses hold."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=86400"
        return response


def build_app(desk: Desk) -> Starlette:
    """Make the web application of one console.

    Parameters
    ----------
    desk : Desk
    """
    url = urlsplit(desk.settings.console.reached_at)
    secure = url.scheme == "https"
    renderer = Renderer(desk)
    app = Starlette(
        routes=_routes(desk, renderer),
        middleware=[
            Middleware(Headers, strict_transport=secure),
            Middleware(TrustedHostMiddleware, allowed_hosts=[url.hostname or "", *_LOOPBACK_NAMES]),
            Middleware(
                SessionMiddleware,
                secret_key=secrets.token_hex(32),
                # Browsers take a name with this beginning from this very host alone.
                session_cookie="__Host-psoas" if secure else "psoas",
                max_age=None,
                same_site="lax",
                https_only=secure,
            ),
            Middleware(Guard, desk=desk),
        ],
    )
    _answer_faults(app, renderer)
    return app


def _routes(desk: Desk, renderer: Renderer) -> list[BaseRoute]:
    pages, actions, login = Pages(desk, renderer), Actions(desk, renderer), Login(desk, renderer)
    insight = Insight(desk, renderer)
    operator, viewer = Role.OPERATOR, Role.VIEWER
    act = "/series/{uid}/{action:str}"
    return [
        Mount("/static", _Static(directory=_STATIC)),
        *_oidc_routes(desk),
        Route("/health", _health),
        Route("/login", login.show),
        Route("/login", login.log_in, methods=["POST"]),
        Route("/logout", deed(login.log_out, viewer), methods=["POST"]),
        Route("/", page(pages.overview)),
        Route("/workers", page(pages.workers)),
        Route("/peers", page(insight.peers)),
        Route("/trends", page(insight.trends)),
        Route("/series", page(pages.series_list)),
        Route("/series/{uid}", page(pages.series)),
        Route("/series/{uid}/overlay.png", page(pages.picture)),
        Route("/search", deed(pages.search, viewer), methods=["POST"]),
        Route(act, page(actions.confirm, operator)),
        Route(act, deed(actions.act, operator), methods=["POST"]),
    ]


def _oidc_routes(desk: Desk) -> list[BaseRoute]:
    settings = desk.settings.console.oidc
    if settings is None:
        return []
    from dicom_node.console.oidc import CALLBACK, OidcLogin

    login = OidcLogin(desk, settings)
    return [Route("/oidc/login", login.log_in), Route(CALLBACK, login.come_back)]


def _answer_faults(app: Starlette, renderer: Renderer) -> None:
    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
        return _fault(renderer, request, error.status_code, error.detail)

    def unusable(request: Request, error: Exception) -> Response:
        assert isinstance(error, NodeError)  # noqa: S101 - what it is registered for
        logger.warning("page fails", path=request.url.path, code=error.code, error=str(error))
        return _fault(renderer, request, 503, f"{error} [{error.code}]")

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(NodeError, unusable)


def _fault(renderer: Renderer, request: Request, status: int, message: str) -> Response:
    if "psoas.session" not in request.scope:
        return PlainTextResponse(message, status)
    values = {"status": status, "message": message}
    return renderer.page(request, "fault.html", values, status)


async def _health(_request: Request) -> Response:
    """Say that the process answers; whether the node works says its own health page."""
    return PlainTextResponse("ok\n")

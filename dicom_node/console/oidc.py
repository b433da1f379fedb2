"""Log people in at the hospital's identity provider (OpenID Connect, code flow with PKCE)."""

from collections.abc import Mapping
from typing import Any, Final

import httpx2
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.config import OidcSettings
from dicom_node.console.desk import Desk, Person, address_of
from dicom_node.console.guard import local_path
from dicom_node.console.login import begin
from dicom_node.console.users import Role
from dicom_node.errors import SettingsError

logger = structlog.get_logger(__name__)

CALLBACK: Final = "/oidc/callback"
_NEXT: Final = "next"


class OidcLogin:
    """The way to the provider and back.

    Parameters
    ----------
    desk : Desk
    settings : OidcSettings

    Raises
    ------
    SettingsError
        The file with the secret cannot be read.
    """

    def __init__(self, desk: Desk, settings: OidcSettings) -> None:
        self._desk = desk
        self._settings = settings
        self._provider: Any = OAuth().register(
            "provider",
            client_id=settings.client_id,
            client_secret=_secret(settings),
            server_metadata_url=f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
        )

    async def log_in(self, request: Request) -> Response:
        """Send somebody to the provider."""
        request.session[_NEXT] = local_path(request.query_params.get("next"))
        back = self._desk.settings.console.reached_at + CALLBACK
        try:
            answer: Response = await self._provider.authorize_redirect(request, back)
        except (AuthlibBaseError, httpx2.HTTPError) as error:
            raise _unusable(error) from None
        return answer

    async def come_back(self, request: Request) -> Response:
        """Begin a session for somebody that the provider vouches for."""
        try:
            token = await self._provider.authorize_access_token(request)
        except (AuthlibBaseError, JoseError, httpx2.HTTPError) as error:
            raise _unusable(error) from None
        claims: Mapping[str, Any] = token.get("userinfo") or {}
        person = Person(_name(claims), address_of(request))
        role = role_of(claims, self._settings)
        if role is None:
            self._desk.audit(
                person, "logged_in", succeeded=False, description="in no group of ours"
            )
            raise HTTPException(403, "your account may not use this console")
        following = local_path(request.session.get(_NEXT))
        return begin(self._desk, request, person, role, None, following)


def role_of(claims: Mapping[str, Any], settings: OidcSettings) -> Role | None:
    """Return the highest role that the groups of a person give; ``None`` without any."""
    value = claims.get(settings.role_claim, ())
    groups = {value} if isinstance(value, str) else set(map(str, value))
    if groups & set(settings.operators):
        return Role.OPERATOR
    if groups & set(settings.viewers):
        return Role.VIEWER
    return None


def _name(claims: Mapping[str, Any]) -> str:
    return str(claims.get("preferred_username") or claims.get("sub") or "unknown")[:64]


def _secret(settings: OidcSettings) -> str | None:
    path = settings.client_secret_file
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"console.oidc: {path} cannot be read: {error.strerror}") from None


def _unusable(error: Exception) -> HTTPException:
    logger.warning("login at the provider fails", error=type(error).__name__)
    return HTTPException(403, "the identity provider did not vouch for you; log in again")

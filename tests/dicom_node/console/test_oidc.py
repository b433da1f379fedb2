"""Log in at a small identity provider that really signs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from dicom_node.config import OidcSettings
from dicom_node.console.oidc import role_of
from dicom_node.console.server import make_desk
from dicom_node.console.users import Role
from dicom_node.demo.processes import free_port
from dicom_node.ledger import Ledger
from tests.dicom_node.console.conftest import Visitor, make_visitor
from tests.dicom_node.factories import node_settings

pytestmark = pytest.mark.network


@dataclass
class Provider:
    """Vouches for one person; ``changes`` spoil the ID token."""

    port: int = field(default_factory=free_port)
    groups: tuple[str, ...] = ("pacs-admins",)
    changes: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "1"}))
    signs_with: RSAKey | None = None
    nonce: str = ""
    asked: dict[str, list[str]] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.about),
                Route("/authorize", self.authorize),
                Route("/token", self.token, methods=["POST"]),
                Route("/keys", self.keys),
            ]
        )

    def about(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    def authorize(self, request: Request) -> Response:
        query = request.query_params
        self.nonce = query["nonce"]
        assert query["code_challenge_method"] == "S256"
        return RedirectResponse(f"{query['redirect_uri']}?code=c0de&state={query['state']}")

    async def token(self, request: Request) -> Response:
        self.asked = parse_qs((await request.body()).decode())
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "psoas",
            "sub": "4711",
            "iat": now,
            "exp": now + 60,
            "nonce": self.nonce,
            "preferred_username": "anna",
            "groups": list(self.groups),
        } | self.changes
        key = self.signs_with or self.key
        signed = jwt.encode({"alg": "RS256", "kid": "1"}, claims, key)
        return JSONResponse({"access_token": "a", "token_type": "Bearer", "id_token": signed})

    def keys(self, _request: Request) -> Response:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})


@pytest.fixture
def provider(soon: Callable[[Callable[[], bool]], None]) -> Iterator[Provider]:
    made = Provider()
    config = uvicorn.Config(made.app(), port=made.port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        soon(lambda: server.started)
        yield made
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def visitor(tmp_path: Path, provider: Provider) -> Iterator[Visitor]:
    (tmp_path / "oidc.secret").write_text("geheim\n")
    oidc = {
        "issuer": provider.issuer,
        "client_id": "psoas",
        "client_secret_file": tmp_path / "oidc.secret",
        "operators": ["pacs-admins"],
        "viewers": ["radiology"],
    }
    settings = node_settings(tmp_path, console={"oidc": oidc})
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        yield make_visitor(make_desk(settings, ledger))


def there_and_back(visitor: Visitor, following: str = "/series") -> tuple[int, str]:
    """Go to the provider and come back; return the answer and where it leads."""
    there = visitor.client.get(f"/oidc/login?next={following}", follow_redirects=False)
    back = httpx2.get(there.headers["location"], follow_redirects=False).headers["location"]
    parts = urlsplit(back)
    answer = visitor.client.get(f"{parts.path}?{parts.query}", follow_redirects=False)
    return answer.status_code, answer.headers.get("location", "")


@pytest.mark.parametrize(
    ("groups", "role"), [(("pacs-admins", "x"), "operator"), (("radiology",), "viewer")]
)
def test_whoever_the_provider_vouches_for_is_in(
    visitor: Visitor, provider: Provider, groups: tuple[str, ...], role: str
) -> None:
    provider.groups = groups
    assert "hospital account" in visitor.client.get("/login").text
    assert there_and_back(visitor) == (303, "/series")
    page = visitor.client.get("/").text
    assert f"anna <small>{role}</small>" in page
    assert visitor.trail.deeds == [("anna", "logged_in", (), True, "")]
    assert provider.asked["code"] == ["c0de"]
    assert len(provider.asked["code_verifier"][0]) >= 43


def test_whoever_is_in_no_group_stays_out(visitor: Visitor, provider: Provider) -> None:
    provider.groups = ("surgery",)
    assert there_and_back(visitor)[0] == 403
    assert visitor.trail.deeds[0][3] is False
    assert visitor.client.get("/", follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "changes",
    [{"aud": "other"}, {"exp": 1}, {"nonce": "old"}, {"iss": "http://evil.example"}],
    ids=["audience", "expired", "nonce", "issuer"],
)
def test_a_token_that_is_not_for_us_opens_nothing(
    visitor: Visitor, provider: Provider, changes: dict[str, Any]
) -> None:
    provider.changes = changes
    assert there_and_back(visitor)[0] == 403
    assert visitor.client.get("/", follow_redirects=False).status_code == 303


def test_a_foreign_signature_opens_nothing(visitor: Visitor, provider: Provider) -> None:
    provider.signs_with = RSAKey.generate_key(2048, {"kid": "1"})
    assert there_and_back(visitor)[0] == 403


def test_an_answer_that_nobody_asked_for_opens_nothing(visitor: Visitor) -> None:
    assert visitor.client.get("/oidc/callback?code=c0de&state=guess").status_code == 403


def test_the_way_back_leads_to_pages_of_ours_only(visitor: Visitor) -> None:
    assert there_and_back(visitor, "//evil.example") == (303, "/")


def test_the_highest_role_of_all_groups_counts() -> None:
    settings = OidcSettings(issuer="https://x", client_id="y", operators=("a",), viewers=("b",))
    assert role_of({"groups": ["b", "a"]}, settings) is Role.OPERATOR
    assert role_of({"groups": "b"}, settings) is Role.VIEWER
    assert role_of({}, settings) is None

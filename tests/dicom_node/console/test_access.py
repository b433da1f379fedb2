"""Who gets into the console, what browsers may do there, and what only operators may."""

import re

import pytest
from starlette.routing import Route

from dicom_node.audit import AuditTrail
from dicom_node.console.app import build_app
from dicom_node.console.desk import Person
from dicom_node.console.server import audit_of
from dicom_node.console.users import Role
from dicom_node.records import SeriesState
from tests.dicom_node.console.conftest import PASSWORD, UID, Visitor

OPEN = {"/login", "/health", "/static", "/oidc/login", "/oidc/callback"}


def addresses(visitor: Visitor, method: str) -> list[str]:
    """Every address of the console, filled in."""
    routes = [route for route in build_app(visitor.desk).routes if isinstance(route, Route)]
    return [
        route.path.replace("{uid}", UID).replace("{action:str}", "retry")
        for route in routes
        if route.methods and method in route.methods
    ]


def test_without_login_every_page_leads_to_the_login(visitor: Visitor) -> None:
    closed = set(addresses(visitor, "GET")) - OPEN
    assert {"/", "/series", f"/series/{UID}"} <= closed
    for path in closed:
        answer = visitor.client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"][:6]) == (303, "/login"), path
    for path in set(addresses(visitor, "POST")) - OPEN:
        answer = visitor.client.post(path, follow_redirects=False)
        assert answer.headers["location"] == "/login"
    assert visitor.desk.ledger.series(UID).state is SeriesState.FAILED


def test_no_form_works_without_its_secret(operator: Visitor) -> None:
    posts = set(addresses(operator, "POST"))
    assert f"/series/{UID}/retry" in posts
    for path in posts:
        for form in ({}, {"csrf": "wrong"}):
            assert operator.client.post(path, data=form).status_code == 403, path
    assert operator.desk.ledger.series(UID).state is SeriesState.FAILED


def test_a_form_of_another_site_is_refused(operator: Visitor) -> None:
    form = {"csrf": operator.token()}
    origin = {"origin": "http://evil.example"}
    answer = operator.client.post(f"/series/{UID}/retry", data=form, headers=origin)
    assert answer.status_code == 403


def test_another_name_of_this_host_is_refused(visitor: Visitor) -> None:
    assert visitor.client.get("/login", headers={"host": "evil.example"}).status_code == 400


def test_a_viewer_looks_and_does_not_act(viewer: Visitor) -> None:
    page = viewer.client.get(f"/series/{UID}").text
    assert "Analyse again" not in page
    assert viewer.client.get(f"/series/{UID}/retry").status_code == 403
    assert viewer.submit(f"/series/{UID}/retry") == 403
    assert viewer.submit("/search", kind="patient", term="P1") == 403
    assert viewer.desk.ledger.series(UID).state is SeriesState.FAILED


def test_a_wrong_password_and_a_wrong_name_look_the_same(visitor: Visitor) -> None:
    answers = set()
    for name in ("olga", "nobody"):
        form = {"csrf": visitor.token("/login"), "name": name, "password": "wrong"}
        answer = visitor.client.post("/login", data=form)
        answers.add((answer.status_code, re.sub(r'value="[^"]*"', "", answer.text)))
    assert len(answers) == 1
    assert answers.pop()[0] == 403
    assert [deed[:2] + deed[3:4] for deed in visitor.trail.deeds] == [
        ("olga", "logged_in", False),
        ("nobody", "logged_in", False),
    ]


def test_whoever_guesses_is_shut_out_for_a_while(visitor: Visitor) -> None:
    for _ in range(5):
        assert visitor.log_in("olga", "guess") == 403
    assert visitor.log_in("olga") == 429
    assert visitor.log_in("vera") == 303
    visitor.clock.forward(901)
    assert visitor.log_in("olga") == 303


def test_an_address_that_tries_many_names_is_shut_out(visitor: Visitor) -> None:
    for number in range(30):
        visitor.desk.by_address.note("testclient")
        assert visitor.desk.by_name.admits(number)
    assert visitor.log_in("olga") == 429


def test_the_login_begins_a_session_under_a_new_name(visitor: Visitor) -> None:
    visitor.client.get("/login")
    before = visitor.client.cookies["psoas"]
    visitor.log_in()
    assert visitor.client.cookies["psoas"] != before
    cookie = visitor.client.post(
        "/login",
        data={"csrf": visitor.token("/login"), "name": "olga", "password": PASSWORD},
        follow_redirects=False,
    ).headers["set-cookie"]
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_the_login_leads_back_to_pages_of_ours_only(visitor: Visitor) -> None:
    for target, expected in (
        ("/series", "/series"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
    ):
        form = {"csrf": visitor.token("/login"), "name": "olga", "password": PASSWORD}
        answer = visitor.client.post("/login", data=form | {"next": target}, follow_redirects=False)
        assert answer.headers["location"] == expected


def test_a_session_ends_with_the_logout_with_time_and_with_idleness(operator: Visitor) -> None:
    stolen = operator.client.cookies["psoas"]
    assert operator.submit("/logout") == 303
    operator.client.cookies["psoas"] = stolen
    assert operator.client.get("/", follow_redirects=False).status_code == 303
    operator.client.cookies.clear()
    operator.log_in()
    operator.clock.forward(1799)
    assert operator.client.get("/", follow_redirects=False).status_code == 200
    operator.clock.forward(1801)
    assert operator.client.get("/", follow_redirects=False).status_code == 303
    operator.log_in()
    for _ in range(21):
        operator.clock.forward(1700)
        operator.client.get("/series", follow_redirects=False)
    operator.clock.forward(1700)
    assert operator.client.get("/", follow_redirects=False).status_code == 303


@pytest.mark.parametrize("change", ["removed", "demoted", "new password"])
def test_a_person_who_changes_in_the_file_is_out_at_once(operator: Visitor, change: str) -> None:
    users = operator.desk.users
    if change == "removed":
        users.remove("olga")
    else:
        users.put("olga", Role.VIEWER if change == "demoted" else Role.OPERATOR, PASSWORD)
    assert operator.client.get("/", follow_redirects=False).status_code == 303


def test_every_answer_forbids_what_no_page_does(operator: Visitor) -> None:
    for path in ("/", "/login", f"/series/{UID}", "/nowhere", "/static/console.css"):
        headers = operator.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        caching = "public" if path.startswith("/static") else "no-store"
        assert headers["cache-control"].startswith(caching)


def test_no_page_holds_what_the_policy_forbids(operator: Visitor) -> None:
    for path in set(addresses(operator, "GET")) - {f"/series/{UID}/overlay.png"}:
        text = operator.client.get(path).text
        assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=|<style", text), path


def test_a_form_that_is_too_long_is_not_read(operator: Visitor) -> None:
    assert operator.submit("/search", term="x" * 70_000) == 413


def test_deeds_go_into_the_audit_trail_of_the_node(operator: Visitor) -> None:
    settings = operator.desk.settings
    audit = audit_of(settings)
    person = Person("olga", "192.0.2.7")
    for deed in ("logged_in", "logged_out", "viewed", "changed"):
        audit(person, deed, ("1.2",), succeeded=deed != "changed", description=f"{deed} it")
    messages = [path.read_text() for path in AuditTrail.of(settings).folder.glob("*.msg")]
    assert len(messages) == 4
    for message in messages:
        assert 'UserID="olga"' in message
        assert "192.0.2.7" in message
    assert sum("changed it" in message for message in messages) == 1

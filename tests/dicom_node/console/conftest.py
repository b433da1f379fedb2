"""A console with people in it, and a browser-like client."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from starlette.testclient import TestClient

from dicom_node.config import CompletionSettings
from dicom_node.console.app import build_app
from dicom_node.console.desk import Desk, Person
from dicom_node.console.server import make_desk
from dicom_node.console.users import Role, UserFile
from dicom_node.ledger import Ledger
from dicom_node.records import Reason, SeriesEvent
from tests.dicom_node.factories import START, ManualClock, instance, node_settings

PASSWORD = "correct horse battery staple"  # noqa: S105 - of these tests alone
UID = "1.2.3"


@dataclass
class Trail:
    """Keeps the deeds that are audited."""

    deeds: list[tuple[str, str, tuple[str, ...], bool, str]] = field(default_factory=list)

    def __call__(
        self,
        person: Person,
        deed: str,
        studies: tuple[str, ...] = (),
        *,
        succeeded: bool = True,
        description: str = "",
    ) -> None:
        self.deeds.append((person.account, deed, studies, succeeded, description))


@dataclass
class Visitor:
    """Somebody with a browser."""

    desk: Desk
    trail: Trail
    clock: ManualClock
    client: TestClient

    def token(self, page: str = "/") -> str:
        """The secret in the forms of a page."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.client.get(page).text)
        assert found is not None
        return found[1]

    def log_in(self, name: str = "olga", password: str = PASSWORD) -> int:
        token = self.token("/login")
        form = {"csrf": token, "name": name, "password": password, "next": "/series"}
        return self.client.post("/login", data=form, follow_redirects=False).status_code

    def submit(self, path: str, **form: str) -> int:
        form = {"csrf": self.token()} | form
        return self.client.post(path, data=form, follow_redirects=False).status_code

    def found(self, **form: str) -> str:
        return self.client.post("/search", data={"csrf": self.token()} | form).text


def make_visitor(desk: Desk) -> Visitor:
    trail, clock = Trail(), ManualClock()
    desk.sessions._clock = desk.by_name._clock = desk.by_address._clock = clock
    desk = replace(desk, audit=trail, clock=clock)
    client = TestClient(build_app(desk), base_url="http://127.0.0.1:8080")
    return Visitor(desk, trail, clock, client)


# Guessing these passwords is cheap, so the tests are quick.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def visitor(tmp_path: Path) -> Iterator[Visitor]:
    """Nobody is logged in; the ledger has one series, whose analysis failed."""
    settings = node_settings(tmp_path)
    users = UserFile(tmp_path / "console-users.json", CHEAP)
    users.put("olga", Role.OPERATOR, PASSWORD)
    users.put("vera", Role.VIEWER, PASSWORD)
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        ledger.record_instance(instance(), CompletionSettings())
        ledger.advance(UID, SeriesEvent.QUIET_PERIOD_OVER, START)
        ledger.advance(UID, SeriesEvent.TASK_SENT, START)
        reason = Reason("L3_UNCERTAIN", "which vertebra <is> L3 cannot be told")
        ledger.advance(UID, SeriesEvent.WORK_FAILED, START, reason=reason)
        yield make_visitor(replace(make_desk(settings, ledger), users=users))


@pytest.fixture
def operator(visitor: Visitor) -> Visitor:
    assert visitor.log_in("olga") == 303
    visitor.trail.deeds.clear()
    return visitor


@pytest.fixture
def viewer(visitor: Visitor) -> Visitor:
    assert visitor.log_in("vera") == 303
    visitor.trail.deeds.clear()
    return visitor

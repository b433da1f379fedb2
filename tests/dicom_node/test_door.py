from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydicom.uid import CTImageStorage

from dicom_node.config import Service
from dicom_node.contexts import VERIFICATION
from dicom_node.door import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    Caller,
    Door,
    Permit,
    Refusal,
    service_of,
)
from tests.dicom_node.factories import node_settings

COMMITMENT = "1.2.840.10008.1.20.1"

SOURCES = [
    {"ae_title": "CT1", "host": "192.0.2.10"},
    {"ae_title": "CT1", "host": "192.0.2.11"},
    {"ae_title": "WARD", "host": "198.51.100.0/24", "services": ["echo"]},
    {"ae_title": "IPV6", "host": "2001:db8::/32"},
]
PACS = {
    "name": "pacs",
    "ae_title": "PACS",
    "host": "pacs.example",
    "port": 104,
    "commitment": {"ae_title": "COMMITTER"},
}


def door(**sections: Any) -> Door:
    return Door(node_settings(Path("node"), **sections))


def diagnostic(answer: Permit | Refusal) -> int:
    assert isinstance(answer, Refusal)
    return answer.diagnostic


def services(answer: Permit | Refusal) -> set[Service]:
    assert isinstance(answer, Permit)
    return set(answer.services)


@pytest.mark.parametrize(
    ("calling", "address", "may"),
    [
        ("CT1", "192.0.2.10", True),
        ("CT1", "::ffff:192.0.2.10", True),
        ("CT1", "192.0.2.11", True),
        ("CT1", "192.0.2.12", False),
        ("CT2", "192.0.2.10", False),
        ("WARD", "198.51.100.7", True),
        ("WARD", "198.51.101.7", False),
        ("IPV6", "2001:db8::7", True),
        ("IPV6", "2001:db9::7", False),
        ("", "192.0.2.10", False),
        ("CT1", "127.0.0.1", False),
    ],
)
def test_only_named_titles_may_call_and_only_from_their_addresses(
    calling: str, address: str, may: bool
) -> None:
    answer = door(sources=SOURCES).admit(Caller("PSOAS", calling, address))
    assert isinstance(answer, Permit) == may


def test_the_called_title_must_be_ours() -> None:
    for sections in ({}, {"sources": SOURCES}):
        answer = door(**sections).admit(Caller("OTHER", "CT1", "127.0.0.1"))
        assert diagnostic(answer) == CALLED_AE_TITLE_NOT_RECOGNIZED


def test_without_sources_this_host_alone_may() -> None:
    closed = door()
    assert services(closed.admit(Caller("PSOAS", "ANY", "127.0.0.1"))) == set(Service)
    answer = closed.admit(Caller("PSOAS", "ANY", "192.0.2.10"))
    assert diagnostic(answer) == CALLING_AE_TITLE_NOT_RECOGNIZED


def test_storing_and_echo_are_allowed_apart() -> None:
    asked = Caller("PSOAS", "WARD", "198.51.100.7")
    answer = door(sources=SOURCES).admit(asked)
    assert isinstance(answer, Permit)
    assert answer.covers(VERIFICATION)
    assert not answer.covers(CTImageStorage)


def test_a_destination_may_bring_news_but_store_nothing() -> None:
    answer = door(sources=SOURCES, destinations=[PACS]).admit(
        Caller("PSOAS", "COMMITTER", "203.0.113.9")
    )
    assert isinstance(answer, Permit)
    assert answer.covers(COMMITMENT)
    assert not answer.covers(CTImageStorage)


def test_a_destination_on_the_web_does_not_call() -> None:
    web = {"name": "archive", "web": {"url": "https://archive.example/dicom-web"}}
    made = Door(node_settings(Path("node"), sources=SOURCES, destinations=[web]))
    assert not made.knows("203.0.113.9")
    assert made.knows("192.0.2.10")


def test_a_source_that_is_a_destination_too_may_do_both() -> None:
    both = [*SOURCES, {"ae_title": "PACS", "host": "203.0.113.9"}]
    answer = door(sources=both, destinations=[PACS]).admit(Caller("PSOAS", "PACS", "203.0.113.9"))
    assert services(answer) == set(Service)


def test_addresses_of_nobody_are_known_before_a_word_is_said() -> None:
    assert door(sources=SOURCES).knows("192.0.2.10")
    assert not door(sources=SOURCES).knows("203.0.113.9")
    assert door(sources=[*SOURCES, {"ae_title": "ROAMING"}]).knows("203.0.113.9")
    assert door().knows("::1")
    assert not door().knows("192.0.2.10")


def test_a_host_that_is_no_address_is_named() -> None:
    with pytest.raises(ValidationError, match=r"sources\.0\.host"):
        door(sources=[{"ae_title": "CT1", "host": "ct1.example"}])


def test_every_sop_class_has_a_service() -> None:
    assert service_of(VERIFICATION) is Service.ECHO
    assert service_of(CTImageStorage) is Service.STORE
    assert service_of(COMMITMENT) is Service.NOTIFY

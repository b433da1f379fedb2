"""Decide who may associate, and for what: pure functions of what a caller says and whence.

Without ``[[sources]]`` this host alone may; with them, nobody else may. What a peer may do is a
matter of presentation contexts: those of other services are not accepted from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from dicom_node.config import NodeSettings, Service, SourceSettings
from dicom_node.contexts import STORAGE_SOP_CLASSES, VERIFICATION

# Reasons of A-ASSOCIATE-RJ by the service user, PS3.8 table 9-21.
CALLING_AE_TITLE_NOT_RECOGNIZED: Final = 3
CALLED_AE_TITLE_NOT_RECOGNIZED: Final = 7

_ANYBODY_HERE: Final = SourceSettings(
    ae_title="LOOPBACK",
    services=tuple(Service),
    maximum_associations=1000,
    associations_per_minute=1_000_000,
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an association.

    Parameters
    ----------
    called, calling : str
        AE titles of the request, without spaces around them.
    address : str
        IP address of the connection.
    """

    called: str
    calling: str
    address: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an association is rejected.

    Parameters
    ----------
    diagnostic : int
        Reason of PS3.8 table 9-21.
    reason : str
    """

    diagnostic: int
    reason: str


@dataclass(frozen=True, slots=True)
class Permit:
    """What a peer may do.

    Parameters
    ----------
    services : frozenset of Service
    maximum_associations : int
        At the same time.
    associations_per_minute : int
    """

    services: frozenset[Service]
    maximum_associations: int
    associations_per_minute: int

    def covers(self, sop_class_uid: str) -> bool:
        """Say whether presentation contexts of a SOP Class are for this peer."""
        return service_of(sop_class_uid) in self.services


class Door:
    """The list of those who may come in.

    Parameters
    ----------
    settings : NodeSettings
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._own_title = settings.listener.ae_title
        self._callers = settings.callers

    def knows(self, address: str) -> bool:
        """Say whether anybody may call from an address, before it has said a word."""
        place = _address(address)
        if not self._callers:
            return place.is_loopback
        return any(_is_there(caller, place) for caller in self._callers)

    def admit(self, caller: Caller) -> Permit | Refusal:
        """Say whether a peer may associate, and for what."""
        if caller.called != self._own_title:
            return Refusal(CALLED_AE_TITLE_NOT_RECOGNIZED, "the called AE title is not ours")
        place = _address(caller.address)
        if not self._callers:
            if place.is_loopback:
                return _permit([_ANYBODY_HERE])
            return _stranger("no [[sources]] are set, so only this host may call")
        named = [known for known in self._callers if known.ae_title == caller.calling]
        if not named:
            return _stranger("the calling AE title is not among [[sources]]")
        here = [known for known in named if _is_there(known, place)]
        if not here:
            return _stranger("the calling AE title may not call from this address")
        return _permit(here)


def service_of(sop_class_uid: str) -> Service:
    """Which service a SOP Class belongs to."""
    if sop_class_uid == VERIFICATION:
        return Service.ECHO
    return Service.STORE if sop_class_uid in STORAGE_SOP_CLASSES else Service.NOTIFY


def _permit(sources: Sequence[SourceSettings]) -> Permit:
    return Permit(
        frozenset(service for source in sources for service in source.services),
        max(source.maximum_associations for source in sources),
        max(source.associations_per_minute for source in sources),
    )


def _stranger(reason: str) -> Refusal:
    return Refusal(CALLING_AE_TITLE_NOT_RECOGNIZED, reason)


def _is_there(source: SourceSettings, place: IPv4Address | IPv6Address) -> bool:
    return source.host is None or place in ip_network(source.host, strict=False)


def _address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    # A socket that listens on both families shows IPv4 peers in this form.
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address

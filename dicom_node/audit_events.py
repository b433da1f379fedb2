"""The events that Psoas audits, each as a message of PS3.15 A.5.3."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from dicom_node.audit_messages import (
    APPLICATION,
    APPLICATION_ACTIVITY,
    APPLICATION_LAUNCHER,
    APPLICATION_START,
    APPLICATION_STOP,
    AUDIT_LOG_USED,
    DESTINATION_ROLE,
    EXPORT,
    INSTANCES_ACCESSED,
    INSTANCES_TRANSFERRED,
    LOGIN,
    LOGOUT,
    NODE_AUTHENTICATION,
    SECURITY_ALERT,
    SOFTWARE_CONFIGURATION,
    SOURCE_ROLE,
    STUDY_DELETED,
    USER_AUTHENTICATION,
    AuditMessage,
    Code,
    Outcome,
    Participant,
    Study,
)


@dataclass(frozen=True, slots=True)
class User:
    """A person at the command line or the console.

    Parameters
    ----------
    account : str
    name : str
        Empty when unknown.
    address : str
        Where the request came from; empty for the node's own command line.
    """

    account: str
    name: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class AuditedPeer:
    """An application entity at the other end.

    Parameters
    ----------
    ae_title, address : str
    """

    ae_title: str
    address: str


class UserAction(Enum):
    """What a person did, with event, type and action code of the standard."""

    LOGGED_IN = (USER_AUTHENTICATION, LOGIN, "E")
    LOGGED_OUT = (USER_AUTHENTICATION, LOGOUT, "E")
    VIEWED = (INSTANCES_ACCESSED, None, "R")
    CHANGED = (INSTANCES_ACCESSED, None, "U")
    """Had a series analysed or delivered once more, released or dropped it, chose its slice."""
    EXPORTED = (EXPORT, None, "R")
    DELETED = (STUDY_DELETED, None, "D")
    CONFIGURED = (SECURITY_ALERT, SOFTWARE_CONFIGURATION, "E")
    AUDIT_READ = (AUDIT_LOG_USED, None, "R")


@dataclass(frozen=True, slots=True)
class Deed:
    """What a person did.

    Parameters
    ----------
    user : User
    action : UserAction
    studies : sequence of str
        Study Instance UIDs that it was done to.
    succeeded : bool
        ``False`` also for what the person was not allowed to do.
    description : str
        One sentence without values of the patient.
    """

    user: User
    action: UserAction
    studies: Sequence[str] = ()
    succeeded: bool = True
    description: str = ""


def application_activity(ae_title: str, at: datetime, *, started: bool) -> AuditMessage:
    """Say that the node started or stopped (PS3.15 A.5.3.1)."""
    launcher = Participant(f"uid {os.getuid()}", APPLICATION_LAUNCHER, is_requestor=True)
    return AuditMessage(
        APPLICATION_ACTIVITY,
        "E",
        at,
        (_own(ae_title, APPLICATION), launcher),
        types=(APPLICATION_START if started else APPLICATION_STOP,),
    )


def instances_received(
    ae_title: str, sender: AuditedPeer, study: Study, patient: str, at: datetime
) -> AuditMessage:
    """Say that a peer stored instances of one study here (PS3.15 A.5.3.7)."""
    source = Participant(
        sender.address, SOURCE_ROLE, True, ae_title=sender.ae_title, address=sender.address
    )
    participants = (source, _own(ae_title, DESTINATION_ROLE))
    return AuditMessage(
        INSTANCES_TRANSFERRED, "C", at, participants, studies=(study,), patient=patient
    )


def instances_sent(
    ae_title: str, receiver: AuditedPeer, study: Study, patient: str, at: datetime
) -> AuditMessage:
    """Say that results of one study were stored at a peer (PS3.15 A.5.3.7)."""
    source = _own(ae_title, SOURCE_ROLE, is_requestor=True)
    target = Participant(
        receiver.address, DESTINATION_ROLE, ae_title=receiver.ae_title, address=receiver.address
    )
    return AuditMessage(
        INSTANCES_TRANSFERRED, "R", at, (source, target), studies=(study,), patient=patient
    )


def association_refused(
    ae_title: str, caller: AuditedPeer, reason: str, at: datetime
) -> AuditMessage:
    """Raise a security alert for a peer that may not associate (PS3.15 A.5.3.10)."""
    peer = Participant(caller.address, None, True, ae_title=caller.ae_title, address=caller.address)
    return AuditMessage(
        SECURITY_ALERT,
        "E",
        at,
        (_own(ae_title, APPLICATION), peer),
        types=(NODE_AUTHENTICATION,),
        outcome=Outcome.MINOR_FAILURE,
        description=reason,
    )


def user_action(ae_title: str, at: datetime, deed: Deed) -> AuditMessage:
    """Say what a person did at the console or the command line."""
    event, kind, code = deed.action.value
    user = deed.user
    person = Participant(user.account, None, True, name=user.name, address=user.address)
    return AuditMessage(
        event,
        code,
        at,
        (person, _own(ae_title, APPLICATION)),
        types=(kind,) if kind is not None else (),
        outcome=Outcome.SUCCESS if deed.succeeded else Outcome.MINOR_FAILURE,
        studies=tuple(Study(uid) for uid in deed.studies),
        description=deed.description,
    )


def _own(ae_title: str, role: Code, *, is_requestor: bool = False) -> Participant:
    return Participant(f"{os.getpid()}@{socket.gethostname()}", role, is_requestor, ae_title)

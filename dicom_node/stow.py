"""Store files at a DICOMweb server (STOW-RS), as a user agent.

References
----------
DICOM PS3.18 10.5 (Store transaction) and annex I (Store Instances Response Module).
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import requests
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import (
    add_certs_to_session,
    create_session,
    create_session_from_user_pass,
)
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.config import WebSettings
from dicom_node.errors import PeerError, SettingsError
from dicom_node.sender import Answer, OutgoingFile, Problem

_NOBODY: Final = "2.25.0"
"""A Study Instance UID that no study has."""

NO_JSON_MODEL: Final = (ValueError, KeyError, TypeError, AttributeError)
"""A server may answer a failure with anything at all."""

# What a server says of itself, its clients or its load; everything else is about the object.
_OF_THE_MOMENT: Final = frozenset(
    {
        *(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
        *(HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED),
        *(HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS),
    }
)


def store_over_web(
    web: WebSettings, files: Sequence[OutgoingFile], *, timeout_s: float
) -> tuple[Answer, ...]:
    """Store files, one request for each, so that each has an answer of its own.

    Parameters
    ----------
    web : WebSettings
    files : sequence of OutgoingFile
    timeout_s : float
        For the connection and for each answer.

    Returns
    -------
    tuple of Answer
        One for each file, in order.

    Raises
    ------
    PeerError
        Before anything was stored: the server cannot be reached, does not let us in or has
        trouble of its own.
    SettingsError
        The secret or the certificates cannot be read.
    """
    client = client_of(web, timeout_s)
    answers: list[Answer] = []
    for file in files:
        try:
            answers.append(_store_one(client, file))
        except PeerError as error:
            if not answers:
                raise
            answers.append(Answer(file.sop_instance_uid, None, Problem.NO_ANSWER, str(error)))
    return tuple(answers)


def ping(web: WebSettings, *, timeout_s: float) -> None:
    """Search for a study that does not exist.

    Raises
    ------
    PeerError
        One sentence: no connection, not let in, or no DICOMweb service there.
    SettingsError
        The secret or the certificates cannot be read.
    """
    client = client_of(web, timeout_s)
    try:
        client.search_for_studies(search_filters={"StudyInstanceUID": _NOBODY}, limit=1)
    except (requests.RequestException, *NO_JSON_MODEL) as error:
        raise PeerError(f"{web.url} {said(error)}") from None


def client_of(web: WebSettings, timeout_s: float) -> DICOMwebClient:
    """Return a client that asks once and leaves patience to the outbox.

    Raises
    ------
    SettingsError
        The secret or the certificates cannot be read.
    """
    secret = _secret(web)
    headers = {}
    if web.user is not None:
        session = create_session_from_user_pass(web.user, secret)
    else:
        session = create_session()
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    if web.ca_file is not None:
        try:
            session = add_certs_to_session(session, str(web.ca_file))
        except OSError:
            raise SettingsError(f"the certificates {web.ca_file} cannot be read") from None
    client = DICOMwebClient(web.url, session=session, headers=headers, timeout=timeout_s)
    client.set_http_retry_params(retry=False)
    return client


def _secret(web: WebSettings) -> str:
    if web.secret_file is None:
        return ""
    try:
        return web.secret_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"the secret {web.secret_file} cannot be read") from None


def _store_one(client: DICOMwebClient, file: OutgoingFile) -> Answer:
    uid = file.sop_instance_uid
    try:
        dataset = dcmread(file.path)
    except (OSError, InvalidDicomError) as error:
        detail = f"{file.path.name} cannot be sent: {error}"
        return Answer(uid, None, Problem.FILE_UNREADABLE, detail)
    try:
        response = client.store_instances([dataset])
    except requests.HTTPError as error:
        return _refused(file, error)
    except (requests.RequestException, *NO_JSON_MODEL) as error:
        raise PeerError(f"{client.base_url} {said(error)}") from None
    failure = _failure_reason(response)
    if failure is not None:
        return Answer(uid, failure, None, f"failure reason {failure:04X}")
    return Answer(uid, 0x0000, None, "stored over DICOMweb")


def _refused(file: OutgoingFile, error: requests.HTTPError) -> Answer:
    response: Any = error.response
    status = int(response.status_code)
    if status in _OF_THE_MOMENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise PeerError(f"{response.request.url} {said(error)}") from None
    reason = _failure_reason(_body(response))
    detail = f"HTTP status {status}" + ("" if reason is None else f", failure reason {reason:04X}")
    if reason is not None:
        return Answer(file.sop_instance_uid, reason, None, detail)
    return Answer(file.sop_instance_uid, None, Problem.HTTP_REFUSED, detail)


def _body(response: requests.Response) -> Dataset:
    try:
        return Dataset.from_json(response.json())
    except NO_JSON_MODEL:
        return Dataset()


def _failure_reason(response: Dataset) -> int | None:
    failed = response.get("FailedSOPSequence") or []
    return int(failed[0].get("FailureReason") or 0xC000) if failed else None


def said(error: Exception) -> str:
    """Say what went wrong with a request, without the words of the server."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"answered with HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "did not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    return f"did not answer as DICOMweb does ({type(error).__name__})"

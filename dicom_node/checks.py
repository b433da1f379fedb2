"""Try everything that the settings of a node name."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from dicom_node.broker import broker_url, is_answering
from dicom_node.config import DestinationSettings, NodeSettings, TlsSettings, load_settings
from dicom_node.errors import (
    BrokerError,
    NodeError,
    ObjectRefusedError,
    SettingsError,
    SpoolError,
    TlsError,
    UnknownModelError,
)
from dicom_node.model_store import changed_files, installed_model
from dicom_node.spool import Spool
from pipeline.errors import PipelineError

_ECHO_TIMEOUT_S: Final = 10.0
_NOBODY: Final = "PSOAS-CHECK-0"
"""A patient ID that nobody should have."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was tried.

    Parameters
    ----------
    subject : str
        What was tried.
    passed : bool
    message : str
        One sentence.
    code : str
        Of the error; empty when it passed.
    """

    subject: str
    passed: bool
    message: str
    code: str = ""


def check_node(config: Path, *, accepts: bool = False) -> list[CheckResult]:
    """Try settings, folder, port, ledger, broker, models and every destination.

    Parameters
    ----------
    config : Path
    accepts : bool
        Ask each destination what it accepts too, and record the answer in the ledger.

    Returns
    -------
    list of CheckResult
        Only that of the settings when they are wrong.
    """
    try:
        settings = load_settings(config)
    except SettingsError as error:
        faults = str(error).removeprefix(f"{config}: ").split("; ")
        return [CheckResult("settings", False, fault, error.code) for fault in faults]
    return [
        CheckResult("settings", True, f"{config} is valid"),
        *(_tried(subject, attempt) for subject, attempt in _attempts(settings)),
        *(_tried(subject, attempt) for subject, attempt in _questions(settings, ask=accepts)),
    ]


def _attempts(settings: NodeSettings) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "storage", lambda: _try_storage(settings)
    yield "ledger", lambda: _try_ledger(settings)
    yield "broker", lambda: _try_broker(settings)
    yield "listener", lambda: _try_listener(settings)
    if settings.tls is not None:
        yield "tls", partial(_try_tls, settings.tls)
    yield "models", lambda: _try_models(settings)
    yield "weights", lambda: _try_weights(settings)
    if not settings.destinations:
        yield "destinations", lambda: "none is named: results stay in the spool"
    for destination in settings.destinations:
        yield f"destination {destination.name}", echo_of(destination, settings)
    if settings.priors is not None:
        yield "priors", lambda: _try_priors(settings)


def _questions(settings: NodeSettings, *, ask: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    for destination in settings.destinations:
        if destination.web is None:
            question = _ask if ask else _recall
            yield f"accepts {destination.name}", partial(question, destination, settings)


def _tried(subject: str, attempt: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(subject, True, attempt())
    except (NodeError, PipelineError) as error:
        return CheckResult(subject, False, str(error), error.code)
    except ModuleNotFoundError as error:
        # A worker needs no ledger, a listener no network: what is absent is not used here.
        return CheckResult(subject, True, f"not used here, {error.name} is not installed")


def _try_storage(settings: NodeSettings) -> str:
    folder = settings.storage.folder
    free_mib = Spool.of(settings.storage).free_mib()
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SpoolError(f"{folder} is not writable for this user")
    watermark_mib = settings.storage.free_space_watermark_mib
    if free_mib < watermark_mib:
        raise SpoolError(
            f"{folder} has {free_mib} MiB free, images are refused below {watermark_mib} MiB"
        )
    return f"{folder} is writable and has {free_mib / 1024:.1f} GiB free"


def _try_ledger(settings: NodeSettings) -> str:
    from dicom_node.ledger import Ledger

    ledger = Ledger.open(settings.ledger_url)
    try:
        count = sum(ledger.counts().values())
    finally:
        ledger.close()
    return f"the ledger opens and knows {count} series"


def _try_weights(settings: NodeSettings) -> str:
    """Look whether installed weights that are in use, or measure silently, are whole."""
    from dicom_node.ledger import Ledger

    spool = Spool.of(settings.storage)
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        keys = [*ledger.models.active().values(), *settings.shadow.models]
    for key in keys:
        changed = changed_files(installed_model(key, spool), spool)
        if changed:
            raise UnknownModelError(f"{key} is damaged: {', '.join(changed)} changed")
    return f"{', '.join(keys)} installed and whole" if keys else "those of the settings are used"


def _try_broker(settings: NodeSettings) -> str:
    if is_answering(settings):
        return "the broker answers"
    if settings.broker.url is None:
        return "the embedded broker is not running, psoas serve starts it"
    raise BrokerError(f"the broker at {_without_password(broker_url(settings))} does not answer")


def _try_listener(settings: NodeSettings) -> str:
    listener = settings.listener
    place = f"{listener.host}:{listener.port}"
    try:
        with socket.create_server((listener.host, listener.port)):
            return f"{place} is free for {listener.ae_title}"
    except OSError as error:
        if _is_listening(listener.host, listener.port):
            return f"something listens on {place} already, psoas serve if it runs"
        raise SettingsError(f"{place} cannot be listened on: {error.strerror}") from None


def _try_tls(tls: TlsSettings) -> str:
    from dicom_node.tls import client_context, expires_at, expiry_warning, server_context

    server_context(tls), client_context(tls)
    now, end = datetime.now(UTC), expires_at(tls.certificate)
    warning = expiry_warning(tls, now)
    if end <= now:
        raise TlsError(f"{warning}: peers refuse it")
    return f"WARNING: {warning}" if warning else f"{tls.certificate} is valid until {end:%Y-%m-%d}"


def _is_listening(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _try_models(settings: NodeSettings) -> str:
    from pipeline.analyze import load_models

    worker = settings.worker
    models = load_models(worker.segmenter, worker.level_finder, worker.device, worker.classifier)
    loaded = [models.segmenter.identity]
    if models.classifier is not None:
        loaded.append(models.classifier.identity)
    names = ", ".join(f"{one.name} {one.version}" for one in loaded)
    return f"{names} loads on {models.segmenter.device}"


def _try_priors(settings: NodeSettings) -> str:
    from dicom_node.report_archives import reports_of

    pacs = reports_of(settings)
    if pacs is None:
        return "no PACS is asked for earlier results"
    pacs.studies(_NOBODY)
    return f"{pacs.label} answers queries"


def echo_of(destination: DestinationSettings, settings: NodeSettings) -> Callable[[], str]:
    """Return the attempt to verify a destination: a sentence, or ``PeerError`` when it fails."""

    def attempt() -> str:
        timeout_s = min(settings.delivery.timeout_s, _ECHO_TIMEOUT_S)
        if destination.web is not None:
            from dicom_node.stow import ping

            ping(destination.web, timeout_s=timeout_s)
            return f"{destination.web.url} answers QIDO-RS"
        from dicom_node.destinations import peer_of
        from dicom_node.sender import echo

        peer = peer_of(destination, settings)
        echo(peer, calling_ae_title=settings.listener.ae_title, timeout_s=timeout_s)
        return f"{peer.label} answers C-ECHO"

    return attempt


def _ask(destination: DestinationSettings, settings: NodeSettings) -> str:
    from dicom_node.acceptance import gets_the_report_alone, never_delivered
    from dicom_node.capabilities import ask
    from dicom_node.destinations import peer_of
    from dicom_node.ledger import Ledger

    answer = ask(
        peer_of(destination, settings),
        calling_ae_title=settings.listener.ae_title,
        timeout_s=min(settings.delivery.timeout_s, _ECHO_TIMEOUT_S),
    )
    with closing(Ledger.open(settings.ledger_url)) as ledger:
        ledger.capabilities.record(destination.name, answer, datetime.now(UTC))
    lost = never_delivered(destination, answer)
    if lost:
        raise ObjectRefusedError(
            f"it takes neither {' nor '.join(lost)}, nor anything that would go out instead"
        )
    if gets_the_report_alone(destination, answer):
        raise ObjectRefusedError(
            "it takes sr but not the seg that sr refers to: every series will be partly delivered, "
            "with a report that refers to the images only; without seg in its objects it gets the "
            "same report and nothing is refused"
        )
    return _recall(destination, settings)


def _recall(destination: DestinationSettings, settings: NodeSettings) -> str:
    """Repeat what a destination answered when it was last asked."""
    from dicom_node.acceptance import names_accepted
    from dicom_node.ledger import Ledger

    with closing(Ledger.open(settings.ledger_url)) as ledger:
        asked_at, answer = ledger.capabilities.of(destination.name)
    if asked_at is None:
        return "it was not asked yet: psoas check --accepts"
    taken = ", ".join(names_accepted(answer)) or "nothing"
    return f"it took {taken} when asked on {asked_at:%Y-%m-%d %H:%M} UTC"


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"

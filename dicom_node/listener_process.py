"""Run the listener as a process, with the embedded broker when the settings name no other."""

import os
import threading
from contextlib import ExitStack

from dicom_node.broker import EmbeddedBroker, broker_folder
from dicom_node.celery_app import create_app
from dicom_node.config import NodeSettings
from dicom_node.dispatch import CeleryDispatcher
from dicom_node.hardening import forbid_core_dumps
from dicom_node.logs import configure_logs
from dicom_node.monitoring import monitoring
from dicom_node.serve import serve, stop_on_signals
from dicom_node.service_manager import ALIVE, READY, STOPPING, tell_manager


def run_listener(settings: NodeSettings) -> None:
    """Receive images until SIGINT or SIGTERM.

    Parameters
    ----------
    settings : NodeSettings

    Raises
    ------
    BrokerError
        The embedded broker does not start.
    SettingsError, LedgerError, SpoolError
        See ``serve``.
    """
    configure_logs(settings.log)
    forbid_core_dumps()
    stop = threading.Event()
    stop_on_signals(stop)
    with ExitStack() as resources:
        if settings.broker.url is None:
            resources.enter_context(EmbeddedBroker(broker_folder(settings)))
        resources.enter_context(monitoring(settings))
        resources.callback(tell_manager, STOPPING, os.environ)
        serve(
            settings,
            CeleryDispatcher(create_app(settings)),
            stop,
            ready=lambda _port: tell_manager(READY, os.environ),
            alive=lambda: tell_manager(ALIVE, os.environ),
        )

"""A process that serves a folder without any broker.

``python -m tests.dicom_node.serving FOLDER [PORT]``
"""

import sys
import threading
from pathlib import Path

from dicom_node.logs import configure_logs
from dicom_node.serve import serve, stop_on_signals
from tests.dicom_node.factories import RecordingDispatcher, node_settings


def main() -> None:
    """Print the port as soon as peers can associate, then serve until a signal comes."""
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    settings = node_settings(Path(sys.argv[1]), listener={"port": port})
    configure_logs(settings.log)
    stop = threading.Event()
    stop_on_signals(stop)
    serve(settings, RecordingDispatcher(), stop, ready=lambda port: print(port, flush=True))  # noqa: T201


if __name__ == "__main__":
    main()

"""A worker of queue ``gpu`` that measures nothing: it reads every image and answers at once.

Run as ``python -m tests.system.stub_worker NODE.TOML``. What it does to a series follows from its
Series Description: ``CRASH`` kills the process, ``MEMORY`` runs out of memory, ``HANG`` never ends.
"""

import hashlib
import os
import signal
import socket
import sys
import time
import uuid
import warnings
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from celery import signals
from celery.platforms import EX_FAILURE
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian

from dicom_node.celery_app import ANALYZE_SERIES, GPU_QUEUE, create_app
from dicom_node.config import load_settings
from dicom_node.errors import DeviceMemoryError
from dicom_node.logs import configure_logs
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import ResultFile
from dicom_node.spool import Spool
from dicom_node.tasks import Analyst, Reporter, caught
from dicom_node.worker_process import start_anew

CRASH, MEMORY, HANG = "CRASH", "MEMORY", "HANG"
WORK_S = 0.3


def measure(spool: Spool, series_instance_uid: str, revision: int) -> Outcome:
    """Name the images that were read, in an object whose UID follows from them."""
    work = spool.read_work(series_instance_uid, revision)
    headers = [dcmread(spool.path(path)) for path in work.paths]
    _misbehave(str(headers[0].get("SeriesDescription", "")))
    time.sleep(WORK_S)
    images = sorted(str(header.SOPInstanceUID) for header in headers)
    result = _result(headers[0], images)
    content = BytesIO()
    result.save_as(content, enforce_file_format=True)
    path = spool.put_results(series_instance_uid, revision, {"sr.dcm": content.getvalue()})
    file = ResultFile(
        result.SOPInstanceUID, result.SOPClassUID, ExplicitVRLittleEndian, path["sr.dcm"]
    )
    return Outcome(OutcomeKind.MEASURED, results=(file,), measurement={"images": images})


def _misbehave(description: str) -> None:
    if description == CRASH:
        os.kill(os.getpid(), signal.SIGKILL)
    if description == MEMORY:
        raise DeviceMemoryError("the device has not enough memory for this series")
    while description == HANG:
        time.sleep(0.1)


def _result(source: Dataset, images: list[str]) -> Dataset:
    number = uuid.UUID(bytes=hashlib.sha256("".join(images).encode()).digest()[:16])
    result = Dataset()
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.file_meta.MediaStorageSOPClassUID = Comprehensive3DSRStorage
    result.SOPClassUID = Comprehensive3DSRStorage
    result.SOPInstanceUID = f"2.25.{number.int}"
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    result.StudyInstanceUID = source.StudyInstanceUID
    result.SeriesInstanceUID = f"{result.SOPInstanceUID}.1"
    result.Modality = "SR"
    result.PatientID = source.PatientID
    result.PatientName = source.PatientName
    return result


def main(config: Path) -> None:
    # What Celery says of superusers is about pickle, which is refused here.
    warnings.filterwarnings("ignore", module=r"celery\..*")
    settings = load_settings(config)
    spool, app = Spool.of(settings.storage), create_app(settings)

    @app.task(name=ANALYZE_SERIES, bind=True, shared=False)
    def analyze_series(task: Any, uid: str, revision: int, order: int) -> None:
        redelivered = bool((task.request.delivery_info or {}).get("redelivered"))
        analyst = Analyst(
            spool, partial(measure, spool), Reporter(app).send, settings.worker.time_limit_s
        )
        caught(partial(analyst.analyze, uid, revision, order, redelivered=redelivered))

    def configure(**_: object) -> None:
        configure_logs(settings.log)

    def announce(**_: object) -> None:
        sys.stderr.write("ready to work\n")
        sys.stderr.flush()

    signals.setup_logging.connect(configure, weak=False)
    signals.worker_process_init.connect(announce, weak=False)
    worker = app.Worker(
        queues=[GPU_QUEUE],
        concurrency=1,
        pool="prefork",
        hostname=f"stub-{os.getpid()}@{socket.gethostname()}",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    if worker.exitcode == EX_FAILURE:
        start_anew("the stub worker ended")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A worker of queue gpu whose networks are a stand-in: ``python -m tests.system.quick_worker``.

Queue, acknowledgements, spool, news and results are the real ones; only the measurement is not.
"""

import sys
import time
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid

from dicom_node.config import NodeSettings, load_settings
from dicom_node.outcomes import Outcome, OutcomeKind
from dicom_node.records import ResultFile
from dicom_node.spool import Spool
from dicom_node.worker_process import run_worker

WORK_S = 0.2


def measure(series_instance_uid: str, revision: int, context: SimpleNamespace) -> Outcome:
    """One object whose UID follows from the images, as the real ones do."""
    work = context.spool.read_work(series_instance_uid, revision)
    time.sleep(WORK_S)
    dataset = Dataset()
    dataset.SOPClassUID = SegmentationStorage
    names = sorted(path.name for path in work.paths)
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series_instance_uid, *names])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[series_instance_uid])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    paths = context.spool.put_results(series_instance_uid, revision, {"seg.dcm": buffer.getvalue()})
    result = ResultFile(
        dataset.SOPInstanceUID, SegmentationStorage, ExplicitVRLittleEndian, paths["seg.dcm"]
    )
    return Outcome(OutcomeKind.MEASURED, results=(result,))


def make_context(settings: NodeSettings) -> SimpleNamespace:
    """What ``measure`` needs, and no network."""
    return SimpleNamespace(spool=Spool.of(settings.storage))


def main() -> None:
    """Work until told to stop; the argument is the settings file."""
    stand_in = ModuleType("dicom_node.worker")
    stand_in.make_context = make_context  # type: ignore[attr-defined]
    stand_in.measure = measure  # type: ignore[attr-defined]
    sys.modules["dicom_node.worker"] = stand_in
    run_worker(load_settings(Path(sys.argv[1])), "gpu")


if __name__ == "__main__":
    main()

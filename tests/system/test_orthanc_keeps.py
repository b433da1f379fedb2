"""Orthanc gives back every object as it got it, over DIMSE and over DICOMweb."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from dicom_node.sender import OutgoingFile, Peer, store
from pipeline.errors import LevelUncertainError
from pipeline.objects import not_analysed
from pipeline.objects.results import RESULT_BUILDERS
from tests.orthanc import RunningOrthanc, running_orthanc
from tests.pipeline.objects.odd_sources import ODD_SOURCES
from tests.pipeline.objects.validators import Tool

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Every object that can be made, of a patient whose name needs three alphabets."""
    folder = tmp_path_factory.mktemp("objects")
    (folder / "source").mkdir()
    analysis, context = ODD_SOURCES["kanji"](folder / "source")
    made = {name: build(analysis, context) for name, build in RESULT_BUILDERS.items()}
    error = LevelUncertainError("two vertebrae look alike")
    made["not_analysed"] = not_analysed.build(error, context.sources, context)
    for name, result in made.items():
        result.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return {name: folder / f"{name}.dcm" for name in made}


@pytest.fixture
def orthanc(tool: Tool, tmp_path: Path) -> Iterator[RunningOrthanc]:
    with running_orthanc(tool("Orthanc"), tmp_path) as running:
        yield running


def differences(one: Dataset, other: Dataset) -> list[str]:
    """Keywords of the elements in which two objects differ."""
    tags = {element.tag for element in one} | {element.tag for element in other}
    return [
        str(tag)
        for tag in sorted(tags)
        if tag not in one or tag not in other or one[tag] != other[tag]
    ]


def retrieved(orthanc: RunningOrthanc, study_instance_uid: str) -> dict[str, Dataset]:
    """Get a study over DIMSE."""
    found: dict[str, Dataset] = {}

    def keep(event: Event) -> int:
        found[str(event.dataset.SOPInstanceUID)] = event.dataset
        return 0x0000

    ae = AE()
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    roles = []
    for sop_class in CLASSES:
        ae.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
        roles.append(build_role(sop_class, scp_role=True))
    association = ae.associate(
        "127.0.0.1",
        orthanc.port,
        ext_neg=roles,
        ae_title=orthanc.ae_title,
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    )
    assert association.is_established
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = study_instance_uid
    answers = association.send_c_get(query, StudyRootQueryRetrieveInformationModelGet)
    assert [status.Status for status, _ in answers][-1] == 0x0000
    association.release()
    return found


CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.104.1",
    "1.2.840.10008.5.1.4.1.1.481.3",
)


def test_objects_come_back_unchanged_over_dimse(
    objects: Mapping[str, Path], orthanc: RunningOrthanc
) -> None:
    # Orthanc of 2021 knows no label maps; that destination would not ask for one.
    sent = {name: dcmread(path) for name, path in objects.items() if name != "labelmap"}
    files = [
        OutgoingFile(
            one.SOPInstanceUID, one.SOPClassUID, one.file_meta.TransferSyntaxUID, objects[name]
        )
        for name, one in sent.items()
    ]
    peer = Peer(orthanc.ae_title, "127.0.0.1", orthanc.port)
    answers = store(peer, files, calling_ae_title="PSOAS", timeout_s=30.0)
    assert [answer.status for answer in answers] == [0x0000] * len(files)
    back = retrieved(orthanc, next(iter(sent.values())).StudyInstanceUID)
    assert {name: differences(one, back[one.SOPInstanceUID]) for name, one in sent.items()} == {
        name: [] for name in sent
    }


def test_objects_come_back_unchanged_over_dicomweb(
    objects: Mapping[str, Path], orthanc: RunningOrthanc
) -> None:
    sent = {name: dcmread(path) for name, path in objects.items()}
    client = DICOMwebClient(orthanc.dicomweb_url)
    client.store_instances(list(sent.values()))
    for name, one in sent.items():
        back = client.retrieve_instance(
            one.StudyInstanceUID,
            one.SeriesInstanceUID,
            one.SOPInstanceUID,
            media_types=(("application/dicom", "*"),),
        )
        assert differences(one, back) == [], name


def test_a_bit_that_differs_is_noticed(objects: Mapping[str, Path]) -> None:
    one, other = dcmread(objects["seg"]), dcmread(objects["seg"])
    assert differences(one, other) == []
    pixels = np.frombuffer(other.PixelData, np.uint8).copy()
    pixels[0] ^= 1
    other.PixelData = pixels.tobytes()
    other.PatientName = "Somebody^Else"
    assert len(differences(one, other)) == 2

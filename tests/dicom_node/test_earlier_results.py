"""Earlier reports of a patient are found in a PACS, and nobody else's."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.config import NodeSettings, PriorsSettings
from dicom_node.earlier_results import Patient, Reports, earlier_reports
from dicom_node.errors import PeerError, SettingsError
from dicom_node.report_archives import reports_of
from pipeline.objects import sr
from pipeline.objects.identity import PredecessorReport
from tests.conftest import find_tool
from tests.dicom_node.factories import node_settings
from tests.orthanc import RunningOrthanc, running_orthanc
from tests.peers import ScriptedPacs
from tests.phantoms import TorsoPhantom, phantom_analysis
from tests.pipeline.objects.results import context_of

PHANTOM = TorsoPhantom((3, 32, 32), 12.0)


def report(
    study: str, day: str, *, patient_id: str = "P1", predecessor: str = "", version: str = "9.9"
) -> Dataset:
    """Make the report on a study of a patient."""
    sources = PHANTOM.datasets()
    for one in sources:
        one.PatientID, one.StudyDate, one.StudyInstanceUID = patient_id, day, study
        one.PatientBirthDate = "19500102"
    before = PredecessorReport(study, "1.3", predecessor) if predecessor else None
    context = dataclasses.replace(
        context_of(PHANTOM, sources), predecessor=before, software_version=version
    )
    made = sr.build(phantom_analysis(PHANTOM), context)
    # Series of one phantom that lie in several studies need names of their own.
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
        setattr(made, keyword, f"{made[keyword].value[:40]}.{study.rpartition('.')[2]}")
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def patient(**changes: str) -> Patient:
    header = Dataset()
    header.PatientID, header.StudyDate, header.StudyInstanceUID = "P1", "20260102", "1.9.9"
    for keyword, value in changes.items():
        setattr(header, keyword, value)
    return Patient.of(header)


@dataclasses.dataclass
class Shelf:
    """A PACS that holds some objects."""

    held: Sequence[Dataset]
    label: str = "the shelf"

    def studies(self, patient_id: str) -> list[Dataset]:
        return [one for one in self.held if one.PatientID == patient_id]

    def series(self, study_instance_uid: str) -> list[Dataset]:
        return [one for one in self.held if one.StudyInstanceUID == study_instance_uid]

    def objects(self, study_instance_uid: str, series_instance_uid: str) -> list[Dataset]:
        return [
            one
            for one in self.series(study_instance_uid)
            if one.SeriesInstanceUID == series_instance_uid
        ]


def found(held: Sequence[Dataset], **changes: str) -> list[str]:
    return [one.sop_instance_uid for one in earlier_reports(patient(**changes), Shelf(held))]


OLD, RECENT, LATER = (
    report("1.9.1", "20240101"),
    report("1.9.2", "20250101"),
    report("1.9.3", "20270101"),
)


def test_the_latest_earlier_study_counts() -> None:
    assert found([OLD, RECENT, LATER]) == [RECENT.SOPInstanceUID]
    assert found([OLD, LATER]) == [OLD.SOPInstanceUID]
    assert found([LATER]) == []


def test_a_report_on_the_present_study_is_no_prior() -> None:
    assert found([RECENT], StudyInstanceUID="1.9.2") == []


def test_a_report_that_another_one_replaces_does_not_count() -> None:
    second = report("1.9.2", "20250101", predecessor=RECENT.SOPInstanceUID, version="10")
    assert found([second, RECENT]) == [second.SOPInstanceUID]


def test_a_study_without_a_report_of_ours_is_passed_over() -> None:
    other = report("1.9.2", "20250101")
    other.SeriesDescription = "CAD"
    images = report("1.9.2", "20250101")
    images.Modality = "CT"
    assert found([OLD, other, images]) == [OLD.SOPInstanceUID]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({"IssuerOfPatientID": "NORTH"}, {"IssuerOfPatientID": "SOUTH"}),
        ({"PatientBirthDate": "19600102"}, {}),
        ({}, {"PatientID": "P2"}),
    ],
)
def test_a_report_on_somebody_else_is_no_prior(here: dict[str, str], there: dict[str, str]) -> None:
    assert found([RECENT], PatientBirthDate="19500102") == [RECENT.SOPInstanceUID]
    stranger = report("1.9.2", "20250101")
    for keyword, value in there.items():
        setattr(stranger, keyword, value)

    class Careless(Shelf):
        """A PACS that matches anybody."""

        def studies(self, patient_id: str) -> list[Dataset]:
            return list(self.held) if patient_id else []

    assert earlier_reports(patient(**here), Careless([stranger])) == ()


@pytest.mark.parametrize("patient_id", ["", "*", "P?", "A\\B"])
def test_an_id_that_names_many_patients_is_not_searched_for(patient_id: str) -> None:
    assert not patient(PatientID=patient_id).can_be_searched
    assert patient().can_be_searched


def test_nothing_of_the_patient_stands_in_a_log_line() -> None:
    assert "P1" not in repr(patient())


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningOrthanc]:
    folder = tmp_path_factory.mktemp("orthanc")
    with running_orthanc(find_tool("Orthanc"), folder) as running:
        for one in (OLD, RECENT, LATER, report("1.9.4", "20250601", patient_id="P11")):
            running.store(one)
        yield running


def settings(folder: Path, **address: object) -> NodeSettings:
    one = {"name": "pacs"} | (address or {"ae_title": "PACS", "host": "127.0.0.1", "port": 104})
    return node_settings(folder, destinations=[one], priors={"destination": "pacs"})


def dimse(port: int, ae_title: str = "PACS") -> dict[str, object]:
    return {"ae_title": ae_title, "host": "127.0.0.1", "port": port}


def web(url: str) -> dict[str, object]:
    return {"web": {"url": url}}


def pacs_of(made: NodeSettings) -> Reports:
    pacs = reports_of(made)
    assert pacs is not None
    return pacs


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("way", ["dimse", "web"])
def test_a_real_pacs_gives_the_report_by_either_way(
    way: str, orthanc: RunningOrthanc, tmp_path: Path
) -> None:
    address = dimse(orthanc.port, orthanc.ae_title) if way == "dimse" else web(orthanc.dicomweb_url)
    pacs = pacs_of(settings(tmp_path, **address))
    (earlier,) = earlier_reports(patient(), pacs)
    assert earlier.sop_instance_uid == RECENT.SOPInstanceUID
    assert earlier.area_cm2 == round(phantom_analysis(PHANTOM).composition.tissues[0].area_cm2, 2)
    assert earlier_reports(patient(PatientID="P2"), pacs) == ()


@pytest.mark.network
def test_a_pacs_that_answers_no_queries_is_named(tmp_path: Path) -> None:
    with ScriptedPacs() as pacs:
        reports = pacs_of(settings(tmp_path, **dimse(pacs.port)))
        with pytest.raises(PeerError, match="does not answer such queries"):
            earlier_reports(patient(), reports)


# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.network
@pytest.mark.parametrize("address", [dimse(1), web("http://127.0.0.1:1/dicom-web")])
def test_a_pacs_that_is_away_is_named(address: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="cannot be reached"):
        earlier_reports(patient(), pacs_of(settings(tmp_path, **address)))


def test_queries_may_go_to_another_address_than_results(tmp_path: Path) -> None:
    made = settings(tmp_path)
    other = PriorsSettings(destination="pacs", ae_title="QUERY", host="192.0.2.9", port=105)
    pacs = pacs_of(made.model_copy(update={"priors": other}))
    assert pacs.label == "QUERY at 192.0.2.9:105"
    assert reports_of(made.model_copy(update={"priors": None})) is None


def test_a_pacs_that_is_no_destination_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"priors.destination elsewhere is no destination"):
        node_settings(tmp_path, priors={"destination": "elsewhere"})
    made = settings(tmp_path).model_copy(update={"destinations": ()})
    with pytest.raises(SettingsError, match="there is no destination pacs"):
        reports_of(made)

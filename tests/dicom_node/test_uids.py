import pytest

from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, is_uid


@pytest.mark.parametrize("text", ["1", "1.2.840.10008.1.2", "2.25." + "9" * 39, "1." * 31 + "22"])
def test_uids_are_recognized(text: str) -> None:
    assert is_uid(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "1..2", "1.2.", "../1", "1/2", "1.2\n", "1.a", "١.٢", "1" * 65],  # noqa: RUF001
)
def test_what_could_leave_a_folder_is_no_uid(text: str) -> None:
    assert not is_uid(text)


def test_own_identity_fits_its_attributes() -> None:
    assert IMPLEMENTATION_CLASS_UID.is_valid
    assert 1 <= len(IMPLEMENTATION_VERSION_NAME) <= 16

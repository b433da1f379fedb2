from hypothesis import given
from hypothesis import strategies as st

from dicom_node.search_keys import SearchAttribute, search_key, typed_keys

SECRET = b"s" * 32
ACCESSION, PATIENT = SearchAttribute.ACCESSION_NUMBER, SearchAttribute.PATIENT_ID


@given(st.text(min_size=1).map(str.strip).filter(bool), st.sampled_from(["utf-8", "latin-1"]))
def test_what_is_typed_finds_what_was_received(text: str, encoding: str) -> None:
    received = text.encode(encoding, "replace")
    key = search_key(ACCESSION, b" " + received + b" \0", SECRET)
    assert key is None or key in typed_keys(ACCESSION, f" {text} ", SECRET)


def test_a_digest_tells_attributes_and_nodes_apart() -> None:
    keys = {
        search_key(ACCESSION, b"4711", SECRET),
        search_key(PATIENT, b"4711", SECRET),
        search_key(ACCESSION, b"4711", b"t" * 32),
        search_key(ACCESSION, b"4712", SECRET),
    }
    assert len(keys) == 4


def test_an_empty_value_finds_nothing() -> None:
    assert search_key(PATIENT, b"  ", SECRET) is None
    assert typed_keys(PATIENT, "  ", SECRET) == frozenset()

"""Find series by what a person types without keeping it: keyed digests of single attributes."""

import hashlib
from enum import StrEnum
from typing import Final

_ENCODINGS: Final = ("utf-8", "latin-1")
"""How a typed text may have been encoded by the scanner (PS3.3 C.12.1.1.2)."""


class SearchAttribute(StrEnum):
    """What can be looked for besides UIDs."""

    ACCESSION_NUMBER = "accession"
    PATIENT_ID = "patient"

    @property
    def label(self) -> str:
        """Words for people."""
        return self.name.lower().replace("_", " ")


def search_key(attribute: SearchAttribute, value: bytes, secret: bytes) -> str | None:
    """Digest of one attribute that nobody can compute without ``secret``.

    Parameters
    ----------
    attribute : SearchAttribute
        Separates the digests: an accession number never equals a patient ID.
    value : bytes
        As encoded in the data set; spaces and nulls around it mean nothing (PS3.5 6.2).
    secret : bytes
        Of the spool.

    Returns
    -------
    str or None
        64 hexadecimal digits; ``None`` for an empty value, which identifies nothing.
    """
    stripped = value.strip(b" \0")
    if not stripped:
        return None
    person = attribute.value.encode()
    return hashlib.blake2b(stripped, key=secret, digest_size=32, person=person).hexdigest()


def typed_keys(attribute: SearchAttribute, text: str, secret: bytes) -> frozenset[str]:
    """Digests that what a person typed can have in the ledger; none for an empty text."""
    keys = set()
    for encoding in _ENCODINGS:
        encoded = text.strip().encode(encoding, "replace")
        key = search_key(attribute, encoded, secret)
        if key is not None:
            keys.add(key)
    return frozenset(keys)

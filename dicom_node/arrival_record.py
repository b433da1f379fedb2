"""The record that each received file carries of its own arrival, in its preamble.

Success is answered when the file is on disk. The ledger has the instance by then, but its last
transactions may not survive a power cut; this record lets the next start tell which files arrived
whole and write them into the ledger again.
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

PREAMBLE_BYTES: Final = 128  # PS3.10 7.1, free for the use of an implementation
NO_RECORD: Final = b"\0" * PREAMBLE_BYTES

_MAGIC: Final = b"PSOAS ARRIVAL 1\0"
_FIELDS: Final = struct.Struct("<16s32sq46s")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ArrivalRecord:
    """What the ledger knows of an arrival and the data set does not say.

    Parameters
    ----------
    sha256 : str
        Hexadecimal digest of the data set.
    received_at : datetime
    sender_address : str
        IP address of the peer.
    """

    sha256: str
    received_at: datetime
    sender_address: str

    def to_preamble(self) -> bytes:
        """Encode the record as a preamble."""
        microseconds = (self.received_at - _EPOCH) // _MICROSECOND
        address = self.sender_address.encode("ascii", "replace")
        fields = _FIELDS.pack(_MAGIC, bytes.fromhex(self.sha256), microseconds, address)
        return fields.ljust(PREAMBLE_BYTES, b"\0")

    @classmethod
    def from_preamble(cls, preamble: bytes) -> "ArrivalRecord | None":
        """Decode a preamble; ``None`` when it holds no record."""
        if len(preamble) < PREAMBLE_BYTES:
            return None
        magic, digest, microseconds, address = _FIELDS.unpack_from(preamble)
        if magic != _MAGIC:
            return None
        return cls(
            sha256=digest.hex(),
            received_at=_EPOCH + microseconds * _MICROSECOND,
            sender_address=address.rstrip(b"\0").decode("ascii", "replace"),
        )

"""Hold one data set while it arrives: in memory while it is small, in a file beyond that."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Final

from dicom_node.arrival_record import NO_RECORD, PREAMBLE_BYTES, ArrivalRecord
from dicom_node.errors import SpoolError
from dicom_node.part_file import PartFile
from dicom_node.spool import Spool

MEMORY_BYTES: Final = 2**20
"""What one association keeps in memory: twice the usual image."""


class IncomingDataSet:
    """A data set that arrives in pieces of any size, to be kept byte for byte behind ``head``.

    Receiving never fails: what the disk does not take is swallowed, so that the association can
    go on, and ``store`` raises then. Every instance has to be closed.

    Parameters
    ----------
    spool : Spool
    head : bytes
        File meta information, without the preamble.
    memory : memoryview
        Room to receive into; the caller leaves it alone until ``close``.
    """

    def __init__(self, spool: Spool, head: bytes, memory: memoryview) -> None:
        self._spool = spool
        self._head = head
        self._memory = memory
        self._filled = 0
        self._written_bytes = 0
        self._digest = hashlib.sha256()
        self._part: PartFile | None = None
        self._view: memoryview | None = None
        self._fault: SpoolError | None = None

    @property
    def size_bytes(self) -> int:
        """Length of what has arrived."""
        return self._written_bytes + self._filled

    def room(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._filled == len(self._memory):
            self._spill()
        return self._memory[self._filled :]

    def add(self, count: int) -> None:
        """Say that the first ``count`` bytes of ``room`` have been filled."""
        self._filled += count

    def whole(self) -> memoryview:
        """All that has arrived, to be looked at before ``store``.

        Raises
        ------
        SpoolError
        """
        if self._written_bytes == 0:
            return self._content()
        self._spill()
        if self._view is None:
            self._view = self._opened().view()
        return self._view[PREAMBLE_BYTES + len(self._head) :]

    def store(self, received_at: datetime, sender_address: str) -> tuple[PartFile, str]:
        """Bring everything to disk under a name that nobody reads, with the record of it.

        Parameters
        ----------
        received_at : datetime
        sender_address : str

        Returns
        -------
        (PartFile, str)
            The file, and the SHA-256 of the data set in hexadecimal digits.

        Raises
        ------
        SpoolError
        """
        self._digest.update(self._content())
        sha256 = self._digest.hexdigest()
        record = ArrivalRecord(sha256, received_at, sender_address).to_preamble()
        is_large = self._part is not None
        self._write(record)
        part = self._opened()
        try:
            if is_large:
                part.overwrite_start(record)
            part.flush()
        except OSError as error:
            raise _unusable(error) from error
        return part, sha256

    def close(self) -> None:
        """Let go of the memory, and of the file unless it was published."""
        if self._view is not None:
            self._view.release()
        if self._part is not None:
            self._part.discard()

    def _spill(self) -> None:
        self._digest.update(self._content())
        self._write(NO_RECORD)

    def _content(self) -> memoryview:
        return self._memory[: self._filled]

    def _write(self, preamble: bytes) -> None:
        """Move what is in memory to the file; a fault is kept for later."""
        try:
            if self._fault is None:
                self._append(preamble, self._content())
        except SpoolError as error:
            self._fault = error
        self._written_bytes += self._filled
        self._filled = 0

    def _append(self, preamble: bytes, content: memoryview) -> None:
        is_first = self._part is None
        if self._part is None:
            self._part = self._spool.new_part()
        try:
            self._part.write([preamble, self._head, content] if is_first else [content])
        except OSError as error:
            raise _unusable(error) from error

    def _opened(self) -> PartFile:
        if self._fault is not None:
            raise self._fault
        if self._part is None:
            raise SpoolError("nothing was written")
        return self._part


def _unusable(error: OSError) -> SpoolError:
    return SpoolError(f"spool file {Path('incoming')} cannot be used: {error.strerror}")

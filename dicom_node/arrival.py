"""Hold one data set while it arrives: in memory while it is small, in a file beyond that."""

import hashlib
import mmap
from datetime import datetime
from pathlib import Path
from typing import Final

from dicom_node.arrival_record import NO_RECORD, PREAMBLE_BYTES, ArrivalRecord
from dicom_node.errors import SpoolError
from dicom_node.part_file import PartFile
from dicom_node.spool import Spool

MEMORY_BYTES: Final = 2**20
"""What one association keeps in memory: twice the usual image."""


def new_memory() -> memoryview:
    """Room for data sets, one after the other; it starts at a page, as direct writes need."""
    return memoryview(mmap.mmap(-1, MEMORY_BYTES))


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
        From ``new_memory``; the caller leaves it alone until ``close``.
    """

    def __init__(self, spool: Spool, head: bytes, memory: memoryview) -> None:
        self._spool = spool
        # The file's own start lies before the data set, so that one write takes both.
        self._start = PREAMBLE_BYTES + len(head)
        memory[: self._start] = NO_RECORD + head
        self._memory = memory
        self._end = self._start
        self._written_bytes = 0
        self._digest = hashlib.sha256()
        self._part: PartFile | None = None
        self._view: memoryview | None = None
        self._fault: SpoolError | None = None

    @property
    def size_bytes(self) -> int:
        """Length of what has arrived."""
        return self._written_bytes + self._end - self._start

    def room(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._end == len(self._memory):
            self._spill()
        return self._memory[self._end :]

    def add(self, count: int) -> None:
        """Say that the first ``count`` bytes of ``room`` have been filled."""
        # Now, while the sender prepares what comes next.
        self._digest.update(self._memory[self._end : self._end + count])
        self._end += count

    def add_all(self, content: memoryview) -> None:
        """Take a copy of bytes that arrived elsewhere."""
        while content:
            room = self.room()[: len(content)]
            room[:] = content[: len(room)]
            self.add(len(room))
            content = content[len(room) :]

    def whole(self) -> memoryview:
        """All that has arrived, to be looked at before ``store``.

        Raises
        ------
        SpoolError
        """
        if self._written_bytes == 0:
            return self._memory[self._start : self._end]
        self._spill()
        if self._view is None:
            self._view = self._opened().view()
        return self._view[self._start :]

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
        sha256 = self._digest.hexdigest()
        record = ArrivalRecord(sha256, received_at, sender_address).to_preamble()
        if self._part is not None:
            self._spill()
        part = self._opened() if self._written_bytes else self._spool.new_part()
        self._part = part
        try:
            if self._written_bytes:
                part.overwrite_start(record)
            else:
                self._memory[:PREAMBLE_BYTES] = record
                part.write_at_once(self._memory, self._end)
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
        """Move what is in memory to the file; a fault is kept for later."""
        try:
            if self._fault is None:
                self._append()
        except SpoolError as error:
            self._fault = error
        self._written_bytes += self._end - self._start
        self._end = self._start

    def _append(self) -> None:
        is_first = self._part is None
        if self._part is None:
            self._part = self._spool.new_part()
        try:
            self._part.write(self._memory[0 if is_first else self._start : self._end])
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

"""Keep room on the disk for audit messages, so that a full volume loses none of them.

The file is written once, when there is room, and only ever overwritten in place afterwards. That
needs no free space on file systems that do so (ext4, XFS, tmpfs); those that write each change
elsewhere (Btrfs, ZFS) may refuse it.
"""

import fcntl
import os
import secrets
import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HEAD: Final = struct.Struct(">II")
"""Length and CRC-32 of what a place holds; both are zero when it is free."""
_PLACE_BYTES: Final = 4096
"""Messages have one or two thousand bytes."""
_PLACES: Final = 512


@dataclass(frozen=True, slots=True)
class AuditReserve:
    """A file of places for one message each; processes take turns.

    Every method raises ``OSError`` as the system does.

    Parameters
    ----------
    path : Path
    """

    path: Path

    def prepare(self) -> None:
        """Make the file unless it is there, on disk when this returns."""
        if self.path.exists():
            return
        draft = self.path.with_name(f".{self.path.name}-{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                # Written, not only allocated: the first write to allocated blocks may need others.
                file.writelines(bytes(_PLACE_BYTES) for _ in range(_PLACES))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self.path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def keep(self, name: str, message: bytes) -> bool:
        """Write a message into a free place, on disk when this returns.

        Parameters
        ----------
        name : str
            Tells its order among others.
        message : bytes

        Returns
        -------
        bool
            ``False`` when there is no place for it.
        """
        content = name.encode() + b"\n" + message
        if len(content) > _PLACE_BYTES - _HEAD.size:
            return False
        with self._opened() as descriptor:
            for place in range(_PLACES):
                if _length(descriptor, place) == 0:
                    head = _HEAD.pack(len(content), zlib.crc32(content))
                    os.pwrite(descriptor, head + content, place * _PLACE_BYTES)
                    os.fdatasync(descriptor)
                    return True
        return False

    def kept(self) -> dict[int, tuple[str, bytes]]:
        """Name and message by place; what a power cut left half written is left out."""
        if not self.path.exists():
            return {}
        found = {}
        with self._opened() as descriptor:
            for place in range(_PLACES):
                if length := _length(descriptor, place):
                    content = _content(descriptor, place, length)
                    name, _, message = content.partition(b"\n")
                    found[place] = name.decode("ascii", "replace"), message
        return found

    def clear(self, places: Collection[int]) -> None:
        """Free places whose messages were passed on."""
        if not places:
            return
        with self._opened() as descriptor:
            for place in places:
                os.pwrite(descriptor, bytes(_HEAD.size), place * _PLACE_BYTES)
            os.fdatasync(descriptor)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _length(descriptor: int, place: int) -> int:
    """How long the message of a place is; 0 when it is free or what it holds is not whole."""
    length, checksum = _HEAD.unpack(os.pread(descriptor, _HEAD.size, place * _PLACE_BYTES))
    if not 0 < length <= _PLACE_BYTES - _HEAD.size:
        return 0
    return length if zlib.crc32(_content(descriptor, place, length)) == checksum else 0


def _content(descriptor: int, place: int, length: int) -> bytes:
    return os.pread(descriptor, length, place * _PLACE_BYTES + _HEAD.size)

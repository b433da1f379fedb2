"""Write files under names that nobody reads, until they are whole and on disk."""

import mmap
import os
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SUFFIX: Final = ".part"
_MOST_AHEAD: Final = 32


class PartFile:
    """A file that is being written; its name tells that it may not be whole.

    Every method raises ``OSError`` as the system does.

    Parameters
    ----------
    path : Path
        Must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._is_open = True
        self._has_name = False

    def write(self, contents: Sequence[bytes | memoryview]) -> None:
        """Append contents, in one call to the system unless that takes less than it is given."""
        total = sum(len(content) for content in contents)
        written = os.writev(self._descriptor, contents)
        if written < total:
            rest = memoryview(b"".join(contents))[written:]
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def overwrite_start(self, content: bytes) -> None:
        """Replace the first bytes."""
        os.pwrite(self._descriptor, content, 0)

    def flush(self) -> None:
        """Bring the content to disk and end the writing."""
        # The size is among what fdatasync writes; only times are left out.
        os.fdatasync(self._descriptor)
        self._close()

    def view(self) -> memoryview:
        """Show what was written, without a copy; valid while the file exists."""
        return memoryview(mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ))

    def rename(self, target: Path) -> None:
        """Give the file its name; the folder still has to be flushed."""
        self._path.replace(target)
        self._has_name = True

    def discard(self) -> None:
        """Forget the file; a second time, or after ``rename``, nothing happens."""
        self._close()
        if not self._has_name:
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self._descriptor)


class PartPool:
    """Empty files whose names are on disk already, so that only their content is waited for.

    Parameters
    ----------
    folder : Path
        Must exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: deque[PartFile] = deque()
        self._made = 1
        self._lock = threading.Lock()

    def take(self) -> PartFile:
        """Return a file; every call returns another one.

        Raises
        ------
        OSError
        """
        with self._lock:
            if not self._ready:
                self._refill()
            return self._ready.popleft()

    def close(self) -> None:
        """Remove what was not taken."""
        with self._lock:
            while self._ready:
                self._ready.popleft().discard()

    def _refill(self) -> None:
        # One flush for all of them; few at first, since most pools end young.
        for _ in range(self._made):
            self._ready.append(PartFile(self._folder / f"{secrets.token_hex(8)}{SUFFIX}"))
        flush_folder(self._folder)
        self._made = min(2 * self._made, _MOST_AHEAD)


def flush_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

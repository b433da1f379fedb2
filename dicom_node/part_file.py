"""Write files under names that nobody reads, until they are whole and on disk.

Whoever writes such a file holds a lock on it for as long: what is not locked was left behind by a
process that ended, and its contents are judged by who finds it (``left_behind``).
"""

import errno
import fcntl
import mmap
import os
import secrets
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

SUFFIX: Final = ".part"
_MOST_AHEAD: Final = 32
_BLOCK_BYTES: Final = 4096
"""Direct writes come in whole blocks; no volume in use has larger ones."""


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
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._is_open = True
        self._has_name = False

    def write(self, content: memoryview) -> None:
        """Append content."""
        while content:  # the system may take less than it is given
            content = content[os.write(self._descriptor, content) :]

    def write_at_once(self, memory: memoryview, size_bytes: int) -> None:
        """Write all of the file, whole blocks past the page cache where the volume can.

        The flush that follows has little left to do then, and takes about half the time.

        Parameters
        ----------
        memory : memoryview
            Starts at a page.
        size_bytes : int
        """
        blocks_bytes = size_bytes // _BLOCK_BYTES * _BLOCK_BYTES
        written = self._write_directly(memory[:blocks_bytes])
        self.write(memory[written:size_bytes])

    def _write_directly(self, blocks: memoryview) -> int:
        """How many bytes the volume took."""
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
            return os.write(self._descriptor, blocks)
        except OSError as error:
            if error.errno == errno.EINVAL:  # what tmpfs and some network volumes say
                return 0
            raise
        finally:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags)

    def overwrite_start(self, content: bytes) -> None:
        """Replace the first bytes."""
        os.pwrite(self._descriptor, content, 0)

    @property
    def is_ours(self) -> bool:
        """Whether nobody took the file for a leftover before the lock was on it."""
        return os.fstat(self._descriptor).st_nlink > 0

    def flush(self) -> None:
        """Bring the content to disk; the lock stays until the file has its name."""
        # The size is among what fdatasync writes; only times are left out.
        os.fdatasync(self._descriptor)

    def view(self) -> memoryview:
        """Show what was written, without a copy; valid while the file exists."""
        return memoryview(mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ))

    def rename(self, target: Path) -> None:
        """Give the file its name; the folder still has to be flushed."""
        self._path.replace(target)
        self._has_name = True
        self._close()

    def discard(self) -> None:
        """Forget the file; a second time, or after ``rename``, nothing happens."""
        if not self._has_name:
            self._path.unlink(missing_ok=True)
        self._close()

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
        self._helper: threading.Thread | None = None

    def take(self) -> PartFile:
        """Return a file; every call returns another one.

        Raises
        ------
        OSError
        """
        with self._lock:
            if not self._ready:
                self._refill()
            elif len(self._ready) == self._made // 4:
                # In time for the next one not to wait.
                self._helper = threading.Thread(target=self._refill_ahead, daemon=True)
                self._helper.start()
            return self._ready.popleft()

    def close(self) -> None:
        """Remove what was not taken."""
        if self._helper is not None:
            self._helper.join()
        with self._lock:
            while self._ready:
                self._ready.popleft().discard()

    def _refill_ahead(self) -> None:
        # What fails here fails again for whoever finds nothing, and is answered there.
        with suppress(OSError):
            self._ready.extend(self._make(self._made))

    def _refill(self) -> None:
        self._ready.extend(self._make(self._made))
        # Few at first, since most pools end young.
        self._made = min(2 * self._made, _MOST_AHEAD)

    def _make(self, count: int) -> list[PartFile]:
        made: list[PartFile] = []
        try:
            made.extend(self._make_one() for _ in range(count))
            flush_folder(self._folder)  # once for all of them
        except OSError:
            for part in made:
                part.discard()
            raise
        return made

    def _make_one(self) -> PartFile:
        while True:
            part = PartFile(self._folder / f"{secrets.token_hex(8)}{SUFFIX}")
            if part.is_ours:
                return part
            part.discard()


@contextmanager
def left_behind(path: Path) -> Iterator[bool]:
    """Say whether a file was left behind by a process that ended; nobody else has it meanwhile.

    ``False`` for one that somebody writes, and for one that has got its name in this moment.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _is_free(descriptor) and path.exists()
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def flush_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

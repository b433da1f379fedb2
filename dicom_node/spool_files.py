"""Write files that are whole under their names, whatever fails meanwhile."""

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from dicom_node.errors import SpoolError
from dicom_node.part_file import SUFFIX, flush_folder


class PrivateFiles:
    """Files below one folder, private to the user.

    A file is written under a name that ends in ``.part``, flushed and renamed, then its folder is
    flushed. All paths that come in are relative to the folder.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    SpoolError
        When a file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, relative: Path) -> Path:
        """Absolute path of a file."""
        return self._folder / relative

    def put(self, relative: Path, *contents: bytes | memoryview) -> None:
        """Write a file, on disk when this returns; an earlier one of the name is replaced."""
        target = self.path(relative)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}{SUFFIX}")
        with translated(relative):
            self.make_folder(target.parent)
            try:
                _write_flushed(part, contents)
                part.replace(target)
            except OSError:
                part.unlink(missing_ok=True)
                raise
            flush_folder(target.parent)

    def put_once(self, relative: Path, content: bytes) -> None:
        """Write a file that several processes may be the first to write; one of them wins."""
        draft = relative.with_name(f".{relative.name}.{secrets.token_hex(4)}")
        self.put(draft, content)
        with translated(relative):
            with contextlib.suppress(FileExistsError):
                os.link(self.path(draft), self.path(relative))
            self.path(draft).unlink()
            flush_folder(self.path(relative).parent)

    def make_folder(self, folder: Path) -> None:
        """Make an absolute folder and those above it, their names on disk when this returns."""
        if folder.is_dir():
            return
        if folder != self._folder:
            self.make_folder(folder.parent)
        folder.mkdir(mode=0o700, parents=folder == self._folder, exist_ok=True)
        flush_folder(folder.parent)


@contextlib.contextmanager
def translated(relative: Path) -> Iterator[None]:
    """Raise faults of the system as faults of a file in the spool.

    Raises
    ------
    SpoolError
    """
    try:
        yield
    except OSError as error:
        raise SpoolError(f"spool file {relative} cannot be used: {error.strerror}") from error


def _write_flushed(path: Path, contents: Sequence[bytes | memoryview]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        for content in contents:
            view = memoryview(content)
            while view:  # an unbuffered write may take less than it is given
                view = view[file.write(view) :]
        os.fsync(file.fileno())

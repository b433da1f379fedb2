"""Delete what nobody needs any more from the spool, never what is coming in again."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from dicom_node.errors import SpoolError
from dicom_node.part_file import flush_folder
from dicom_node.spool import Spool
from dicom_node.spool_paths import instances_folder, revision_folder

_GONE: Final = ".gone"
FRESH_S: Final = 120.0
"""A file that was wanted so recently may not have come to the ledger yet, and is not deleted."""


def discard_instance(spool: Spool, path: Path, is_known: Callable[[Path], bool]) -> bool:
    """Delete an image, unless it is coming in again at this very moment.

    The file is put aside first, and back when the spool had taken it for an arriving image before:
    that leaves a trace on it. What a crash leaves aside is deleted or put back the next time.

    Parameters
    ----------
    spool : Spool
    path : Path
        Relative to the spool.
    is_known : callable
        Whether the ledger names the file again.

    Returns
    -------
    bool
        Whether it is gone.

    Raises
    ------
    SpoolError
    """
    file = spool.path(path)
    aside = file.with_name(f".{file.name}{_GONE}")
    before = None
    try:
        before = file.stat().st_mtime_ns
        file.rename(aside)
    except FileNotFoundError:
        pass  # a crash, or another listener, has put it aside already
    except OSError as error:
        raise SpoolError(f"spool file {path} cannot be deleted: {error.strerror}") from None
    try:
        seen = aside.stat().st_mtime_ns
    except FileNotFoundError:
        return not file.exists()
    if seen != (before or seen) or _is_fresh(seen) or is_known(path):
        _put_back(aside, file)
        return False
    aside.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other images are in it
        file.parent.rmdir()
    return True


def leftovers(spool: Spool, series_instance_uid: str, before: datetime) -> list[Path]:
    """Images of a series that nobody has wanted since a moment, also those put aside.

    Parameters
    ----------
    spool : Spool
    series_instance_uid : str
    before : datetime
        Files that came or were wanted later than ``FRESH_S`` before it are not among them: the
        clocks of node and volume may differ by as much.

    Returns
    -------
    list of Path
        Relative to the spool.
    """
    latest = before.timestamp() - FRESH_S
    files = spool.instance_files(series_instance_uid)
    old = [path for path in files if spool.path(path).stat().st_mtime <= latest]
    folder = instances_folder(series_instance_uid)
    asides = spool.path(folder).glob(f".*{_GONE}")
    return old + [folder / aside.name[1 : -len(_GONE)] for aside in sorted(asides)]


def discard_results(spool: Spool, series_instance_uid: str, revision: int) -> None:
    """Delete results, orders and outcomes of all revisions up to one."""
    for number in range(1, revision + 1):
        folder = spool.path(revision_folder(series_instance_uid, number))
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # there is none, or a newer revision is in it
        spool.path(revision_folder(series_instance_uid, revision)).parent.rmdir()


def _is_fresh(mtime_ns: int) -> bool:
    return abs(time.time_ns() - mtime_ns) < FRESH_S * 1e9


def _put_back(aside: Path, file: Path) -> None:
    # A link fails where a rename would replace what has come in meanwhile.
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        os.link(aside, file)
    aside.unlink(missing_ok=True)
    flush_folder(file.parent)

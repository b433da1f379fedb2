"""Keep instances, work orders and results as files that survive a power cut."""

import hashlib
import math
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from dicom_node.arrival_record import NO_RECORD
from dicom_node.config import StorageSettings
from dicom_node.errors import SpoolError
from dicom_node.file_meta import file_meta
from dicom_node.part_file import SUFFIX, PartFile, PartPool, flush_folder
from dicom_node.records import ReceivedInstance
from dicom_node.spool_files import PrivateFiles, translated
from dicom_node.spool_paths import (
    INSTANCES,
    PICTURE,
    checked_uid,
    instance_path,
    instances_folder,
    outcome_path,
    revision_folder,
    work_path,
)
from dicom_node.work_order import WorkOrder

_MIB: Final = 2**20
_INCOMING: Final = Path("incoming")
_KEY_BYTES: Final = 32
_FREE_SPACE_HOLDS_S: Final = 0.2
"""Asking before each image takes as long as naming its file; so little fills no volume."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells an instance from others, with what its file meta information says.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid, series_instance_uid, transfer_syntax_uid : str
    calling_ae_title : str
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Where an instance went.

    Parameters
    ----------
    path : Path
        Relative to the spool.
    sha256 : str
        Of the data set, without file meta information.
    size_bytes : int
        Of the data set.
    """

    path: Path
    sha256: str
    size_bytes: int


class Spool:
    """Files of the node below one folder.

    ::

        incoming/*.part                              instances that arrive or broke off
        instances/<series>/<sop instance>_<start of sha256>.dcm
        results/<series>/revision_<n>/work.json      what to analyse
        results/<series>/revision_<n>/background.json  what is known already
        results/<series>/revision_<n>/<version>/<name>  result objects
        results/<series>/revision_<n>/shadow-<model>.json  what a shadow model measured
        results/<series>/revision_<n>/outcome.json   how it ended
        models/<key>/                                installed weights
        patient.key                                  secret of the patient digests

    A file is written under a name that ends in ``.part``, flushed and renamed, then its folder is
    flushed: under its final name it is whole. Nothing is ever moved: hand-overs are changes of
    the ledger. All paths that come in or go out are relative to the folder. Names are made of
    checked UIDs only. Folders and files are private to the user.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    SpoolError
        From every method, when a file cannot be written or read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = PrivateFiles(folder)
        self._parts = PartPool(folder / _INCOMING)
        self._free = -math.inf, 0

    @classmethod
    def of(cls, storage: StorageSettings) -> Self:
        """Give the spool of a node with these settings."""
        return cls(storage.folder / "spool")

    def put_instance(self, identity: FileIdentity, data_set: bytes | memoryview) -> StoredFile:
        """Keep a data set byte for byte behind file meta information of our own.

        The same bytes a second time leave the first file as it is; other bytes under the same
        SOP Instance UID get a name of their own.

        Parameters
        ----------
        identity : FileIdentity
        data_set : bytes
            Encoded as in the transfer syntax of ``identity``.
        """
        sha256 = hashlib.sha256(data_set).hexdigest()
        path = instance_path(identity.series_instance_uid, identity.sop_instance_uid, sha256)
        head = file_meta(
            identity.sop_class_uid,
            identity.sop_instance_uid,
            identity.transfer_syntax_uid,
            identity.calling_ae_title,
        )
        part = self.new_part()
        with translated(path):
            try:
                part.write(memoryview(NO_RECORD + head))
                part.write(memoryview(data_set))
                part.flush()
            except OSError:
                part.discard()
                raise
        fault = self.publish(part, path)
        if fault is not None:
            raise fault
        with translated(path):
            flush_folder(self.path(path.parent))
        return StoredFile(path, sha256, len(data_set))

    def new_part(self) -> PartFile:
        """Take an empty file for an instance; its name is on disk, ``publish`` gives the last one.

        The names of many are flushed together.
        """
        with translated(_INCOMING):
            try:
                return self._parts.take()
            except FileNotFoundError:
                self._files.make_folder(self.path(_INCOMING))
                return self._parts.take()

    def publish(self, part: PartFile, relative: Path) -> SpoolError | None:
        """Give a flushed file its name; one that exists keeps its file: the same bytes lie there.

        The new name is not flushed: until it is, ``parts`` or ``instance_files`` finds the file.

        Parameters
        ----------
        part : PartFile
        relative : Path
            From ``instance_path``.

        Returns
        -------
        SpoolError or None
            What kept the file from its name; it is gone then.
        """
        target = self.path(relative)
        try:
            with translated(relative):
                if _is_kept(target):
                    part.discard()
                    return None
                try:
                    part.rename(target)
                except FileNotFoundError:  # the first of its series
                    self._files.make_folder(target.parent)
                    part.rename(target)
        except SpoolError as error:
            part.discard()
            return error
        return None

    def parts(self) -> list[Path]:
        """Files that an earlier listener left under names that nobody reads."""
        with translated(_INCOMING):
            return sorted(self.path(_INCOMING).glob(f"*{SUFFIX}"))

    def adopt(self, part: Path, relative: Path) -> None:
        """Give a file of ``parts`` its name, on disk when this returns."""
        target = self.path(relative)
        with translated(relative):
            self._files.make_folder(target.parent)
            part.replace(target)
            flush_folder(target.parent)

    def recent_series(self, since: datetime) -> list[str]:
        """Series whose instances changed after ``since``."""
        with translated(INSTANCES):
            folders = self.path(INSTANCES).glob("*")
            return sorted(f.name for f in folders if f.stat().st_mtime >= since.timestamp())

    def instance_files(self, series_instance_uid: str) -> list[Path]:
        """Every instance of a series that lies here, relative to the spool."""
        folder = instances_folder(series_instance_uid)
        with translated(folder):
            return sorted(folder / path.name for path in self.path(folder).glob("*.dcm"))

    def close(self) -> None:
        """Remove the empty files that wait for instances."""
        self._parts.close()

    def result_files(self, series_instance_uid: str) -> list[Path]:
        """Every file of all revisions of a series, relative to the spool."""
        folder = Path("results", checked_uid(series_instance_uid))
        # The second pattern is for objects: each version has a folder of its own.
        found = [*self.path(folder).glob("revision_*/[!.]*")]
        found += self.path(folder).glob("revision_*/[!.]*/[!.]*")
        files = sorted(file for file in found if file.is_file())
        return [file.relative_to(self._folder) for file in files]

    def path(self, relative: Path) -> Path:
        """Absolute path of a file in the spool."""
        return self._files.path(relative)

    def series_files(self, instances: Sequence[ReceivedInstance]) -> list[Path]:
        """Absolute paths of instances, in their order."""
        return [self.path(instance.path) for instance in instances]

    def put_work(
        self, series_instance_uid: str, revision: int, order: WorkOrder, *, shadow: str = ""
    ) -> None:
        """Write down what belongs to a revision; a second time it overwrites itself.

        ``shadow`` is the key of a model that measures it silently, beside the active one.
        """
        self._files.put(work_path(series_instance_uid, revision, shadow), order.to_json())

    def read_work(self, series_instance_uid: str, revision: int, *, shadow: str = "") -> WorkOrder:
        """Read what belongs to a revision."""
        path = work_path(series_instance_uid, revision, shadow)
        try:
            return WorkOrder.from_json(self.path(path).read_bytes())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpoolError(f"work order {path} cannot be read: {error}") from None

    def beat(self, series_instance_uid: str, revision: int) -> None:
        """Show that somebody works on a revision, wherever the spool is seen."""
        path = self.path(revision_folder(series_instance_uid, revision) / "alive")
        with translated(path):
            self._files.make_folder(path.parent)
            path.touch(mode=0o600)
            os.utime(path)

    def last_beat(self, series_instance_uid: str, revision: int) -> int | None:
        """When somebody last worked on a revision, by the clock of the volume, in nanoseconds.

        It tells a change, not a time: nobody's clock is compared with it.
        """
        path = self.path(revision_folder(series_instance_uid, revision) / "alive")
        try:
            return path.stat().st_mtime_ns
        except OSError:
            return None

    def put_background(self, series_instance_uid: str, revision: int, background: bytes) -> None:
        """Write down what the ledger knows that the work on a revision needs."""
        self._files.put(
            revision_folder(series_instance_uid, revision) / "background.json", background
        )

    def read_background(self, series_instance_uid: str, revision: int) -> bytes | None:
        """Read what ``put_background`` wrote; ``None`` when nothing was."""
        path = revision_folder(series_instance_uid, revision) / "background.json"
        try:
            return self.path(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SpoolError(f"background {path} cannot be read: {error.strerror}") from None

    def put_results(
        self,
        series_instance_uid: str,
        revision: int,
        objects: Mapping[str, bytes],
        version: str = "",
    ) -> dict[str, Path]:
        """Keep result objects; the same names a second time replace the first ones.

        Parameters
        ----------
        series_instance_uid : str
            Of the measured series.
        revision : int
        objects : mapping of str to bytes
            File name and content.
        version : str
            Hexadecimal digest of what made them: objects of another version stay as they are,
            because deliveries may still name them.

        Returns
        -------
        dict of str to Path
            Where each one lies, relative to the spool.
        """
        folder = revision_folder(series_instance_uid, revision) / version[:16]
        paths = {name: folder / Path(name).name for name in objects}
        for name, content in objects.items():
            self._files.put(paths[name], content)
        return paths

    def picture(self, series_instance_uid: str, revision: int) -> Path:
        """Absolute path of the picture that the work on a revision leaves, if it does."""
        return self.path(revision_folder(series_instance_uid, revision) / PICTURE)

    def put_outcome(
        self, series_instance_uid: str, revision: int, outcome: bytes, *, shadow: str = ""
    ) -> None:
        """Note how the work on a revision ended, after its results lie here."""
        self._files.put(outcome_path(series_instance_uid, revision, shadow), outcome)

    def read_outcome(
        self, series_instance_uid: str, revision: int, *, shadow: str = ""
    ) -> bytes | None:
        """How the work on a revision ended, ``None`` while it has not."""
        path = outcome_path(series_instance_uid, revision, shadow)
        try:
            return self.path(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SpoolError(f"outcome {path} cannot be read: {error.strerror}") from None

    def discard_outcome(self, series_instance_uid: str, revision: int) -> None:
        """Forget how the work on a revision ended, so that it is done anew."""
        path = revision_folder(series_instance_uid, revision) / "outcome.json"
        with translated(path):
            self.path(path).unlink(missing_ok=True)

    def patient_secret(self) -> bytes:
        """Secret that keys the digests of patients; made at the first call."""
        path = Path("patient.key")
        if not self.path(path).exists():
            self._files.put_once(path, secrets.token_bytes(_KEY_BYTES))
        with translated(path):
            return self.path(path).read_bytes()

    def free_mib(self) -> int:
        """Free space of the volume, in MiB, as it was at most a moment ago."""
        now = time.monotonic()
        asked_at, free_mib = self._free
        if now - asked_at > _FREE_SPACE_HOLDS_S:
            with translated(Path()):
                self._files.make_folder(self._folder)
                free_mib = shutil.disk_usage(self._folder).free // _MIB
            self._free = now, free_mib
        return free_mib


def _is_kept(file: Path) -> bool:
    """Whether a file is there; ``spool_release`` sees that it is wanted again."""
    if not os.access(file, os.F_OK):  # nearly always, and cheaper than an exception
        return False
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    return True

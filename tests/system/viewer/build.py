"""The published build of the OHIF viewer, fetched once into a cache outside the repository."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

VERSION: Final = "3.13.2"
_PACKAGE: Final = f"@ohif/app@{VERSION}"
_SHA256: Final = "b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1"
_LIMIT_S: Final = 300.0


class NoViewerError(Exception):
    """The build cannot be had: no npm, no registry, or not the package that was expected."""


def cache_folder() -> Path:
    """Where tests keep what they fetch."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "psoas-tests"


def viewer_build(npm: str, cache: Path) -> Path:
    """Return the folder of static files, fetching the package when it is not there yet.

    Raises
    ------
    NoViewerError
    """
    folder = cache / f"ohif-{VERSION}"
    if not (folder / "package" / "dist" / "index.html").is_file():
        _fetch(npm, cache, folder)
    return folder / "package" / "dist"


def _fetch(npm: str, cache: Path, folder: Path) -> None:
    # Several test processes may begin at once: each works in its own folder, one name wins.
    own = cache / f"{folder.name}.{os.getpid()}"
    own.mkdir(parents=True, exist_ok=True)
    try:
        tarball = own / _pack(npm, own)
        digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
        if digest != _SHA256:
            raise NoViewerError(f"{_PACKAGE} has the checksum {digest}, not the expected one")
        with tarfile.open(tarball) as archive:
            archive.extractall(own, filter="data")
        tarball.unlink()
        own.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise NoViewerError(f"{_PACKAGE} cannot be unpacked: {error.strerror}") from None
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _pack(npm: str, folder: Path) -> str:
    command = [npm, "pack", _PACKAGE, "--json", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=_LIMIT_S
        )
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", "") or str(error)
        raise NoViewerError(f"npm pack {_PACKAGE} failed: {said.strip()[-300:]}") from None
    return str(json.loads(done.stdout)[0]["filename"])

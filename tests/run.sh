#!/usr/bin/env bash
# Everything that must hold, from a fresh clone: linters, types, contracts, all tests.
# Arguments are passed on to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(dcmtk orthanc orthanc-dicomweb redis-server dicom3tools chromium pixelmed-apps default-jre-headless postgresql prometheus poppler-utils systemd)

say() { printf '\n== %s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
    else return 1; fi
}

install_packages() {
    local missing=() package
    for package in "${packages[@]}"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    # RUNLEVEL=1 keeps Debian from starting the services that it installs.
    if as_root apt-get update -qq && as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then return; fi
    say "could not install ${missing[*]}; tests that need them will say so"
}

command -v apt-get >/dev/null && install_packages
bash deploy/setup.sh dev
# Last, so that storescu and others are DCMTK's: pynetdicom brings programs of the same names.
export PATH="$PATH:$PWD/.venv/bin"
say "ruff"
.venv/bin/ruff format --check .
.venv/bin/ruff check .
say "mypy"
.venv/bin/mypy
say "import contracts"
.venv/bin/lint-imports
say "pytest"
# One process more than there are cores, since tests wait for others a third of their time. Counted first: nproc
# takes OMP_NUM_THREADS for the number of cores.
processes=$(($(env -u OMP_NUM_THREADS nproc) + 1))
# A thread for each process, and our own bytecode is kept for the processes that tests start.
export OMP_NUM_THREADS=1
unset PYTHONDONTWRITEBYTECODE
# The tests of a file stay together and share its fixtures; tests/conftest.py puts the long files first.
exec .venv/bin/pytest --numprocesses "$processes" --dist loadfile --no-loadscope-reorder "$@"

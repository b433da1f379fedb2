#!/usr/bin/env bash
# Make .venv in the checkout with Psoas and the given extras installed.
#   bash deploy/setup.sh listener,worker
# PSOAS_PYTHON chooses the interpreter. Running it again is quick when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."
extras=${1:?"usage: setup.sh EXTRA[,EXTRA...]"}
torch_version=$(sed -n 's/^torch==//p' deploy/constraints.txt)

say() { printf '%s\n' "setup: $*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
    else return 1; fi
}

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PSOAS_PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if supported "$candidate"; then printf '%s' "$candidate"; return; fi
    done
    say "no Python 3.11, 3.12 or 3.13 found; install one or set PSOAS_PYTHON"; exit 1
}

make_venv() {
    local python; python=$(find_python)
    say "making .venv with $("$python" --version)"
    # Debian splits ensurepip off into python3-venv; without it a venv has no pip.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        as_root apt-get install -y -qq "$(basename "$(readlink -f "$(command -v "$python")")")-venv" >/dev/null ||
            { say "this Python lacks venv; install the package python3-venv"; exit 1; }
    fi
    "$python" -m venv .venv
}

# The folder, if one is named for pip or uv, that holds a CPU build of torch.
local_torch_folder() {
    local folder
    for folder in ${UV_FIND_LINKS:-} ${PIP_FIND_LINKS:-}; do
        if compgen -G "$folder/torch-$torch_version+cpu*" >/dev/null; then printf '%s' "$folder"; return; fi
    done
}

install_with_uv() {
    local folder backend=cpu
    local uv=(.venv/bin/uv pip install --quiet --python .venv/bin/python)
    folder=$(local_torch_folder)
    command -v nvidia-smi >/dev/null && backend=auto
    if [ -n "$folder" ]; then
        uv+=(--find-links "$folder")
    elif [[ $extras =~ worker|training|dev ]] &&
         ! .venv/bin/python -c 'import torch' 2>/dev/null &&
         ! "${uv[@]}" --torch-backend "$backend" "torch==$torch_version" 2>/dev/null; then
        say "PyTorch's own index cannot be reached; taking the build from PyPI (several GB)"
    fi
    # Otherwise every process compiles PyTorch anew where Python writes no bytecode, as under our
    # systemd units: each start of a worker cost 15 s more.
    "${uv[@]}" --compile-bytecode --constraint deploy/constraints.txt --editable ".[$extras]"
}

install_with_pip() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --compile \
        --constraint deploy/constraints.txt --editable ".[$extras]"
}

main() {
    [ -x .venv/bin/python ] && supported .venv/bin/python || { rm -rf .venv; make_venv; }
    local stamp=.venv/psoas-installed fingerprint
    fingerprint=$(cat pyproject.toml deploy/constraints.txt | sha256sum | cut -d' ' -f1)
    if [ -f "$stamp" ] && grep -qx "$fingerprint $extras" "$stamp"; then return; fi
    say "installing psoas[$extras]"
    if [ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null; then
        install_with_uv
    else
        say "uv cannot be had; using pip"
        install_with_pip
    fi
    # A smaller set asked for later is part of what is there, so the stamp collects them.
    [ -f "$stamp" ] && grep -q "^$fingerprint " "$stamp" || : > "$stamp"
    printf '%s %s\n' "$fingerprint" "$extras" >> "$stamp"
}

main

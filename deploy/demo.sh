#!/usr/bin/env bash
# From a fresh clone to a measured CT: install into .venv, then run `psoas demo`.
# Arguments are passed on to it (see `psoas demo --help`).
set -euo pipefail
cd "$(dirname "$0")/.."
bash deploy/setup.sh listener,worker
exec .venv/bin/psoas demo "$@"

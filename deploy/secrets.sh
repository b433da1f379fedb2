#!/usr/bin/env bash
# Make the secrets of the playground: random passwords and a certificate that the console signs itself.
#   bash deploy/secrets.sh [FOLDER]      (deploy/secrets when absent; what is there stays)
set -euo pipefail
folder=${1:-"$(dirname "$0")/secrets"}
umask 077
mkdir -p "$folder"
cd "$folder"

password() { od -An -N18 -tx1 /dev/urandom | tr -d ' \n'; }

[ -s ledger.password ] || password > ledger.password
[ -s broker.password ] || password > broker.password
[ -s pacs.users ] || printf '{"psoas": "%s"}\n' "$(password)" > pacs.users
[ -s console.key ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout console.key -out console.crt 2>/dev/null
# Containers read them as another user; the folder keeps everybody else of this host out.
chmod 444 -- *
printf 'The PACS of the playground lets in: %s\n' "$(cat pacs.users)"

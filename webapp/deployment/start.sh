#!/bin/sh
# Start a vimi server in a container. Secrets come from files, so that they stand in no environment file, image or
# process list of the host.
set -eu

secrets=${VIMI_SECRETS:-/run/secrets}

if [ -f "$secrets/admin_hash" ]; then
    VIMI_ADMIN_HASH=$(cat "$secrets/admin_hash")
    export VIMI_ADMIN_HASH
fi
if [ -f "$secrets/laboratory_key" ]; then
    VIMI_SECRET=$(cat "$secrets/laboratory_key")
    export VIMI_SECRET
fi
if [ -f "$secrets/database_password" ] && [ -z "${VIMI_DATABASE:-}" ]; then
    # The password is hexadecimal (see compose.yaml), so that nothing in it means anything in a URL.
    VIMI_DATABASE="postgresql://vimi:$(cat "$secrets/database_password")@${VIMI_DATABASE_HOST:-database}/vimi"
    export VIMI_DATABASE
fi

exec "${VIMI:-vimi}" serve "${VIMI_STUDY:-/study}" --address 0.0.0.0 --port 8501 --host "$VIMI_HOST" --behind-proxy "$@"

#!/bin/sh
# Starts PostgreSQL with a password that stands in no file of the repository: POSTGRES_PASSWORD where it is set on
# the first start, else one made here, once. It is kept in a volume that only the services which need it mount,
# readable by their user alone.
set -eu
secret=/secrets/password
if [ ! -s "$secret" ]; then
    umask 077
    if [ -n "${POSTGRES_PASSWORD:-}" ]; then
        printf %s "$POSTGRES_PASSWORD" >"$secret.new"
    else
        od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$secret.new"
    fi
    chown "$SECRET_OWNER" "$secret.new"
    mv "$secret.new" "$secret"
fi
unset POSTGRES_PASSWORD
export POSTGRES_PASSWORD_FILE="$secret"
exec docker-entrypoint.sh postgres "$@"

#!/bin/sh
# Starts PostgreSQL. On the first start, writes the password to a volume that only the services that need it mount, and
# that only their user can read: POSTGRES_PASSWORD if it is set, else a random password. No file of the repository
# contains a password.
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

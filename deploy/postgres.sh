#!/bin/sh
# Starts PostgreSQL. Each database belongs to a role of its own, which is no superuser. The first start generates a random
# password for each role and writes it to a volume that only the services of that database mount, readable by their user
# only. Nobody knows the superuser's password: it is reached on the server's socket inside the container only.
set -eu
(
    umask 077
    for role in dagster mlflow; do
        secret=/secrets/$role/password
        if [ ! -s "$secret" ]; then
            od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$secret.new"
            chown "$SECRET_OWNER" "$secret.new"
            mv "$secret.new" "$secret"
        fi
        echo "CREATE ROLE $role LOGIN PASSWORD '$(sed "s/'/''/g" "$secret")';"
    done >/tmp/roles.sql
    chown postgres /tmp/roles.sql
    od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >/tmp/superuser
)
export POSTGRES_PASSWORD_FILE=/tmp/superuser
exec docker-entrypoint.sh postgres "$@"

#!/bin/sh
# Builds substitutes for the public base images from Debian 12's packages, which have the same Python and PostgreSQL, and
# an older Caddy, and tags them with the public names, for hosts that cannot reach an image registry. Run as root; needs
# debootstrap:
#   deploy/proof/stand_ins.sh podman
# The PostgreSQL image implements what docker-compose.yml uses of the public one: POSTGRES_USER, POSTGRES_DB,
# POSTGRES_PASSWORD_FILE, /docker-entrypoint-initdb.d, an unprivileged server, and a first start that listens on no port
# until the databases exist.
set -eu
engine=${1:-podman}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$work/python" "$mirror"
debootstrap --variant=minbase --include=postgresql-15,gosu bookworm "$work/postgres" "$mirror"
debootstrap --variant=minbase --include=caddy,wget bookworm "$work/caddy" "$mirror"

rm -rf "$work/postgres/var/lib/postgresql" "$work/postgres/etc/postgresql"
cat >"$work/postgres/usr/local/bin/docker-entrypoint.sh" <<'ENTRY'
#!/bin/sh
set -eu
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chown postgres "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    # Passed as a variable, since the user postgres cannot read the file.
    POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    export POSTGRES_PASSWORD
    exec gosu postgres "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    secret=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$secret"
    initdb --username="$POSTGRES_USER" --pwfile="$secret" --auth-host=scram-sha-256 --auth-local=trust
    rm "$secret"
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    pg_ctl -w start -o "-c listen_addresses=''"
    [ "$POSTGRES_DB" = postgres ] || createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    for file in /docker-entrypoint-initdb.d/*.sql; do
        psql --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --set=ON_ERROR_STOP=1 --file="$file"
    done
    pg_ctl -w stop
fi
unset POSTGRES_PASSWORD
exec "$@"
ENTRY
chmod 755 "$work/postgres/usr/local/bin/docker-entrypoint.sh"

tar -C "$work/python" -c . | "$engine" import --change 'CMD ["python3"]' - docker.io/library/python:3.11-slim-bookworm
tar -C "$work/caddy" -c . | "$engine" import - docker.io/library/caddy:2
tar -C "$work/postgres" -c . | "$engine" import \
    --change 'ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV PGDATA=/var/lib/postgresql/data' \
    --change 'VOLUME /var/lib/postgresql/data' \
    --change 'STOPSIGNAL SIGINT' \
    --change 'ENTRYPOINT ["docker-entrypoint.sh"]' \
    --change 'CMD ["postgres"]' - docker.io/library/postgres:15-bookworm

#!/bin/sh
# Backs up both databases, MLflow's artifacts and ADC_HOME every BACKUP_HOURS hours into a folder of /backups that only
# root can read, and keeps the newest BACKUP_KEEP. The databases are copied first, so that the files of everything that
# they name are in the archive. Left out are downloads, work folders and what is being written.
#   backup.sh          for ever
#   backup.sh once     once
#   backup.sh check    exit with 0 if the newest backup is younger than twice BACKUP_HOURS
set -eu
umask 077
backups=${BACKUPS:-/backups} secrets=${SECRETS:-/secrets} files=${FILES:-/}
if [ "${1:-}" = check ]; then
    [ -n "$(find "$backups" -maxdepth 1 -name '20*' -mmin "-$((BACKUP_HOURS * 120))")" ]
    exit
fi
while :; do
    new=$backups/.new
    rm -rf "$new"
    mkdir "$new"
    for role in dagster mlflow; do
        PGPASSWORD=$(cat "$secrets/$role/password") pg_dump --username="$role" --create --clean --if-exists "$role"
    done >"$new/databases.sql"
    # 1: a file changed while it was read.
    tar -C "$files" --exclude='.making-*' --exclude=state/work --exclude=state/downloads -cf "$new/files.tar" \
        artifacts state || [ $? -eq 1 ]
    sync
    mv "$new" "$backups/$(date -u +%Y-%m-%dT%H%M%SZ)"
    find "$backups" -maxdepth 1 -name '20*' | sort | head -n "-$BACKUP_KEEP" | while read -r old; do rm -rf "$old"; done
    [ "${1:-}" != once ] || exit 0
    sleep "$((BACKUP_HOURS * 3600))"
done

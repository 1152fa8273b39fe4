#!/bin/sh
# Starts every service of the image: the database's password comes from a file into the environment, where libpq
# looks for it, so that no address and no command line holds it; and who owns a database brings its tables up to
# this version first. Others wait for those two to be healthy (docker-compose.yml), so that nobody sees a table
# half made.
set -eu
if [ -r "${POSTGRES_PASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    export PGPASSWORD
fi
case "$*" in
"dagster-daemon run"*) dagster instance migrate ;;
"mlflow server"*)
    # A browser's origin has no slash at its end, an address may have one.
    export MLFLOW_SERVER_CORS_ALLOWED_ORIGINS="${MLFLOW_SERVER_CORS_ALLOWED_ORIGINS%/}"
    mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI"
    ;;
esac
exec "$@"

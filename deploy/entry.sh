#!/bin/sh
# Starts every service of the image: the database's password comes from a file into the environment, where libpq
# looks for it, so that no address and no command line holds it; and who owns a database brings its tables up to
# this version first. Others wait for those two to be healthy (docker-compose.yml), so that nobody sees a table
# half made.
set -eu
# What nobody set arrives empty from the compose file, and an empty endpoint is an error to boto3, not Amazon's own.
for name in MLFLOW_S3_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY HF_TOKEN; do
    [ -n "$(printenv "$name")" ] || unset "$name"
done
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

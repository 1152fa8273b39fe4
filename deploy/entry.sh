#!/bin/sh
# Entry point of every service of the image. Reads the database's password from a file into PGPASSWORD, where libpq
# looks for it, so that no URL and no command line contains it. The daemon and the MLflow server first migrate their
# databases to this version; the other services wait until these two are healthy (docker-compose.yml).
set -eu
# Compose passes unset variables as empty strings, and boto3 rejects an empty endpoint instead of using its default.
for name in MLFLOW_S3_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY HF_TOKEN ADC_WEBHOOK ADC_MAIL_SERVER \
    ADC_MAIL_PASSWORD; do
    [ -n "$(printenv "$name")" ] || unset "$name"
done
if [ -r "${POSTGRES_PASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    export PGPASSWORD
fi
case "$*" in
"dagster-daemon run"*) dagster instance migrate ;;
"mlflow server"*)
    # A browser's Origin header has no trailing slash, while ADC_MLFLOW_PAGES may have one.
    export MLFLOW_SERVER_CORS_ALLOWED_ORIGINS="${MLFLOW_SERVER_CORS_ALLOWED_ORIGINS%/}"
    mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI"
    ;;
esac
exec "$@"

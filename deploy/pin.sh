#!/bin/sh
# Pulls the public images and prints lines for `.env` that name each by its digest:
#   deploy/pin.sh >> .env
set -eu
engine=${1:-docker}
for pair in PYTHON_IMAGE=python:3.11-slim-bookworm POSTGRES_IMAGE=postgres:15-bookworm CADDY_IMAGE=caddy:2; do
    image=${pair#*=}
    "$engine" pull --quiet "$image" >&2
    echo "${pair%%=*}=$("$engine" image inspect --format '{{index .RepoDigests 0}}' "$image")"
done

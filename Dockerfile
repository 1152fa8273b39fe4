# One image for the code location, Dagster's webserver and daemon, and the MLflow server.
#   docker build .                            torch for CPUs
#   docker build --build-arg TORCH=cuda .     torch for NVIDIA GPUs
# Layers that change most come last: a change of the code rebuilds about one megabyte.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE}

ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

RUN groupadd --gid 10001 adc \
    && useradd --uid 10001 --gid adc --home-dir /state --no-create-home --shell /usr/sbin/nologin adc \
    && install --directory --owner adc --group adc /state /logs /artifacts \
    && python3 -m venv /opt/venv

# Debian's packages to add, such as g++, which the setting `compile` needs.
ARG PACKAGES=
RUN [ -z "$PACKAGES" ] || { apt-get update && apt-get install --yes --no-install-recommends $PACKAGES \
    && rm -rf /var/lib/apt/lists/*; }

ARG TORCH=cpu
COPY deploy/torch-${TORCH}.lock /tmp/torch.lock
RUN pip install --no-deps --requirement /tmp/torch.lock

COPY deploy/requirements.lock /tmp/
RUN pip install --no-deps --require-hashes --requirement /tmp/requirements.lock && pip check

WORKDIR /opt/adc
COPY adc_pipeline adc_pipeline
COPY deploy/dagster.yaml deploy/workspace.yaml /opt/dagster/
COPY --chmod=755 deploy/entry.sh /usr/local/bin/adc-entry

ENV ADC_HOME=/state \
    DAGSTER_HOME=/opt/dagster \
    HOME=/state \
    PYTHONPATH=/opt/adc
USER adc
# The default command serves the code location; docker-compose.yml has the commands of the other services.
ENTRYPOINT ["adc-entry"]
CMD ["dagster", "api", "grpc", "--host", "0.0.0.0", "--port", "4000", "--module-name", "adc_pipeline.definitions"]
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=15s --start-period=120s CMD ["dagster", "api", "grpc-health-check", "--port", "4000"]

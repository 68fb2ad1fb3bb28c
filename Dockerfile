# The service: Python, hash-locked wheels and its own modules. Also runs the simulator, the auditor and `ingest topics`.
# Plain Dockerfile instructions only: the deploy agent builds releases through Docker's API, which knows no BuildKit.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# The hot path compiled to C from the same sources (docs/decisions/0009). COMPILE=0 leaves it as Python: slower by a
# third, and no compiler is fetched. Compiler and mypy stay in this stage.
FROM ${PYTHON_IMAGE} AS compile
ARG COMPILE=1
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/service.txt requirements/build.txt /build/
RUN mkdir -p /build/compiled \
    && [ "$COMPILE" = 0 ] || { apt-get update -q \
        && apt-get install -q -y --no-install-recommends gcc libc6-dev \
        && python -m venv /opt/build \
        && for part in service build; do /opt/build/bin/python -m pip install \
            --require-hashes --no-deps --only-binary :all: -r "/build/$part.txt" || exit 1; done; }
COPY setup.py pyproject.toml README.md /build/
COPY plugins/k2_build.py /build/plugins/
COPY ingest /build/ingest
WORKDIR /build
RUN [ "$COMPILE" = 0 ] || K2_COMPILE=1 /opt/build/bin/python setup.py -q build_ext --build-lib compiled --build-temp temp

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# Without pip: what can install packages has no place in a running container.
RUN python -m venv --without-pip /opt/ingest
COPY requirements/service.txt /build/
RUN python -m pip --python /opt/ingest/bin/python install \
        --require-hashes --no-deps --no-compile --only-binary :all: -r /build/service.txt
COPY ingest /build/ingest
COPY --from=compile /build/compiled /build/compiled
# The package is copied, not installed, so that no build tool is needed here; the compiled modules lie beside their
# sources and are preferred. Byte code is made here because the root file system is read-only later.
RUN cp -R /build/ingest /build/compiled/. /opt/ingest/lib/python3*/site-packages/ \
    && printf '#!/opt/ingest/bin/python\nimport sys\nfrom ingest.cli import main\nsys.exit(main())\n' \
        > /opt/ingest/bin/ingest \
    && chmod 755 /opt/ingest/bin/ingest \
    && /opt/ingest/bin/python -m compileall -q -j 0 /opt/ingest/lib

FROM ${PYTHON_IMAGE}
# The folder is the simulator's: the new volume that is mounted over it takes its owner from here.
RUN groupadd --system --gid 10001 ingest \
    && useradd --system --uid 10001 --gid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin ingest \
    && install -d -o 10001 -g 10001 /var/lib/k2/simulator
COPY --from=build /opt/ingest /opt/ingest
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="k2-ingest" \
      org.opencontainers.image.description="Binance spot trades into Apache Kafka, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      k2.version="${VERSION}"
# Inside a container only its networks can reach these ports; what is published is compose's decision.
ENV PATH=/opt/ingest/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    K2_METRICS_HOST=0.0.0.0 \
    K2_CONTROL_HOST=0.0.0.0 \
    K2_VERSION=${VERSION} \
    K2_REVISION=${REVISION}
USER 10001:10001
WORKDIR /tmp
EXPOSE 9095 9096
# SIGTERM drains: what is queued is committed within K2_DRAIN_TIMEOUT_SECONDS (10); give it 20 (stop_grace_period).
STOPSIGNAL SIGTERM
# Ready means that trades are committed, not that a port is open. The first commit takes about a second.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["ingest", "health"]
ENTRYPOINT ["ingest"]
CMD ["run"]

# Footnote in one image: `serve` is the API, `worker` ingests, every other command of the CLI runs too.
#
#   docker build -t footnote .
#   docker run --read-only --tmpfs /tmp -v footnote:/data -p 127.0.0.1:8080:8080 footnote
#
# Behind a package mirror or a private certificate, hand pip's configuration and the certificates to the build; they
# are mounted while pip runs and stay out of the image:
#
#   docker build --secret id=pip.conf,src=$HOME/.config/pip/pip.conf --secret id=ca.crt,src=/path/to/ca.crt …

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
# gpu or gpu-cuvs with TORCH=cuda on a machine with an NVIDIA GPU.
ARG EXTRAS=cpu,eval,postgres
ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src

# Dependencies first: this layer is kept until they change.
COPY pyproject.toml scripts/install.py ./
RUN mkdir scripts && mv install.py scripts/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/run/secrets/ca.crt \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt SSL_CERT_FILE=/run/secrets/ca.crt; fi; \
    python3 scripts/install.py --venv /opt/footnote --extras "$EXTRAS" --torch "$TORCH" --dependencies-only
# Compiled here, since the service cannot write beside the modules. Some packages carry templates that are no
# Python, which is no reason to stop.
RUN /opt/footnote/bin/python -m compileall -q -j 0 /opt/footnote/lib >/dev/null 2>&1 || true

COPY README.md LICENSE ./
COPY indexing indexing
COPY retrievers retrievers
COPY app app
COPY migrations migrations
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/run/secrets/ca.crt \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt SSL_CERT_FILE=/run/secrets/ca.crt; fi; \
    /opt/footnote/bin/pip install --quiet --no-deps .

FROM ${PYTHON_IMAGE}
# A fixed number, so that a volume made by one image can be written by the next.
RUN groupadd --gid 10001 footnote \
    && useradd --uid 10001 --gid footnote --no-create-home --home-dir /data --shell /usr/sbin/nologin footnote \
    && mkdir /data && chown footnote:footnote /data
COPY --from=build /opt/footnote /opt/footnote
# Everything that is written goes to /data (database, files, indexes, exported model) or to /tmp.
ENV PATH=/opt/footnote/bin:$PATH \
    FOOTNOTE_HOME=/data \
    HF_HOME=/data/cache/huggingface \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
# The first start exports the model, which takes a while.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health/ready', timeout=4)"]
ENTRYPOINT ["footnote"]
CMD ["serve", "--host", "0.0.0.0"]

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY app app
RUN python -m venv /opt/plainmq && /opt/plainmq/bin/pip install --no-cache-dir '.[nats,redis]'

FROM python:${PYTHON_VERSION}-slim
COPY --from=build /opt/plainmq /opt/plainmq
# In a container the doors must be open to the outside; which of them are is said by `docker run -p`.
ENV PATH=/opt/plainmq/bin:$PATH \
    PLAINMQ_HOST=0.0.0.0 \
    PLAINMQ_TCP_HOST=0.0.0.0 \
    PLAINMQ_DATA_DIR=/data
WORKDIR /opt/plainmq
# A volume that is mounted here belongs to the user below: for the tokens, and for `--engine sqlite:///data/log.db`.
RUN install -d -m 0700 -o 10001 -g 10001 /data
VOLUME /data
USER 10001:10001
EXPOSE 8000 7777
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os, ssl, sys; e = os.environ.get; a = '127.0.0.1', int(e('PLAINMQ_PORT', 8000)); c = h.HTTPSConnection(*a, timeout=2, context=ssl._create_unverified_context()) if e('PLAINMQ_TLS_CERT') else h.HTTPConnection(*a, timeout=2); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["plainmq"]
CMD ["serve"]

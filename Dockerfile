# One image for all four processes; the command says which: `python -m edge`, `python -m timer_service`, ...
# Two stages: what is needed to install stays behind in the first.

FROM python:3.11-slim-bookworm AS build

# No pip in the environment that is shipped: nothing is ever installed into a running container.
RUN python -m venv --without-pip /venv
COPY requirements/runtime.lock /
RUN pip --python /venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: -r /runtime.lock

# .dockerignore lists what the image gets. Compiled here, because containers run on a read-only file system; by hash,
# not by time, so that the same source gives the same image.
COPY . /app
RUN chmod -R a+rX,go-w /app && python -m compileall -q --invalidation-mode unchecked-hash /app


FROM python:3.11-slim-bookworm

# A fixed id, so that volumes and policies (`runAsUser`) can name it. It owns nothing but the data directory.
RUN groupadd --gid 10001 bubble \
    && useradd --uid 10001 --gid bubble --home-dir /data --no-create-home --shell /usr/sbin/nologin bubble \
    && install --directory --owner bubble --group bubble /data
COPY --from=build /venv /venv
COPY --from=build /app /app

# The loopback address, the default outside of containers, could be reached from nowhere in one.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BUBBLE_HOST=0.0.0.0 \
    BUBBLE_EDGE_HOST=0.0.0.0 \
    BUBBLE_DATA_DIR=/data
# What this image was built from, for metrics, logs and `doctor`.
ARG BUBBLE_BUILD=""
ENV BUBBLE_BUILD=$BUBBLE_BUILD
WORKDIR /app
USER bubble
CMD ["python", "-m", "edge"]

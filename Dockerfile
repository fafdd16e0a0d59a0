# tidelog and its built-in applications; docs/operations.md, "Containers", tells how to put your own into it.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /venv
# What tidelog needs, in exact versions: only a change of these two files makes this layer anew.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*project['dependencies'], *(need for extra in ('documents', 'metrics', 'redis', 'taskiq', 'websocket') for need in project['optional-dependencies'][extra]), sep='\n')" > needs.txt \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt --requirement needs.txt \
    && pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --constraint constraints.txt hatchling
COPY README.md README.zh-CN.md LICENSE ./
COPY docs docs
COPY spec spec
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . && /venv/bin/pip install --no-deps --no-index dist/*.whl

FROM python:3.13-slim
COPY --from=build /venv /venv
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin tidelog && install -d -o tidelog -m 700 /data
# It listens on every address of the container. Without Tidelog(principal=...) whoever reaches the port may start runs, and
# whoever has a run's id may read, stop and delete it: publish the port to this machine only, or put a proxy in front that
# knows its users.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 TIDELOG_HOST=0.0.0.0 TIDELOG_STORE=sqlite:////data/tidelog.db
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["tidelog"]
CMD ["serve", "--log-format", "json"]

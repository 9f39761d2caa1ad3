FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/journey
COPY requirements/runtime.txt requirements/
RUN /opt/journey/bin/pip install --require-hashes --only-binary :all: -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY journey journey
COPY streams streams
RUN /opt/journey/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --uid 10001 --home-dir /var/lib/journey --create-home journey
COPY --from=build /opt/journey /opt/journey
ENV PATH=/opt/journey/bin:$PATH PYTHONUNBUFFERED=1
USER journey
WORKDIR /var/lib/journey
ENTRYPOINT ["journey"]
CMD ["worker", "--roles", "ingest,engine"]

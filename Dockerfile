FROM python:3.11.14-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# what every event passes is compiled; neither the compiler nor mypy gets into the image
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python -m venv /opt/journey && python -m venv /opt/build
COPY requirements requirements
RUN /opt/journey/bin/pip install --require-hashes --only-binary :all: -r requirements/runtime.txt
RUN /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/lock.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY journey journey
COPY streams streams
RUN JOURNEY_COMPILE=1 /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/journey/bin/pip install --no-deps /wheels/*.whl

FROM python:3.11.14-slim-trixie
RUN useradd --uid 10001 --home-dir /var/lib/journey --create-home journey
COPY --from=build /opt/journey /opt/journey
# inside its own network a worker may tell everybody how it is; which ports are published is said elsewhere
ENV PATH=/opt/journey/bin:$PATH PYTHONUNBUFFERED=1 JOURNEY_HTTP=0.0.0.0:9646
USER journey
WORKDIR /var/lib/journey
# healthy: every role has its partitions and their state, which takes a while with many customers
HEALTHCHECK --interval=10s --timeout=5s --retries=6 --start-period=120s CMD ["python", "-c", "\
from http.client import HTTPConnection; \
worker = HTTPConnection('127.0.0.1', 9646, timeout=3); \
worker.request('GET', '/ready'); \
raise SystemExit(worker.getresponse().status != 200)"]
ENTRYPOINT ["journey"]
CMD ["worker", "--roles", "all"]

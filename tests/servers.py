"""Real servers for tests: Apache Kafka and Redis on 127.0.0.1, each a process that a test may kill or freeze.

``scripts/test-deps`` prepares them. They end with the process that started them, however that ends.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from tests.waiting import StillNotSoError, eventually_sync

ROOT: Final = Path(__file__).parents[1]
HOST: Final = "127.0.0.1"
# Below the ports that Linux gives to clients: a reconnecting client would else take the port of a server that is down.
PORTS: Final = range(20_000, 32_000)
PORTS_PER_PROCESS: Final = 96
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
LOG_TAIL_CHARACTERS: Final = 4_000


class ServerError(Exception):
    """A server did not do what a test needs; the text ends with the tail of its log."""


class ServerNotPreparedError(ServerError):
    """The programs of a server are not on this machine; the text says what to run."""


class Server(ABC):
    """One server process with a directory and a port that it keeps when it is started again.

    Parameters
    ----------
    directory
        For its data and its log; made if need be, never deleted.
    port
        On 127.0.0.1; a free one if ``None``.
    """

    name: ClassVar[str]

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self.directory = directory.absolute()
        self.port = next(_free_ports()) if port is None else port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where a client finds it, as the settings want it."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the command needs; the directory is there."""

    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it serves clients now; an ``OSError`` is a no."""

    @property
    def log(self) -> Path:
        """What it printed since the first start."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Process id; `ServerError` if it does not run."""
        if self._process is None:
            raise self._error("does not run")
        return self._process.pid

    def start(self) -> None:
        """Return once it answers clients; again after `stop` or `kill`: same port, same data.

        Raises
        ------
        ServerNotPreparedError
            Its programs are missing.
        ServerError
            It runs already, its port is taken, it ended, or it did not answer in 60 s.
        """
        if self._process is not None:
            raise self._error("runs already")
        if not _is_free(self.port):  # whoever has it would answer in its place
            raise self._error("finds it in use")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._prepare()
        self._process = _spawn(self._command(), log=self.log, directory=self.directory)
        _running.add(self)
        try:
            eventually_sync(self._is_up, within_seconds=START_SECONDS)
        except StillNotSoError:
            self.kill()
            raise self._error(f"did not answer in {START_SECONDS:g} s") from None

    def stop(self) -> None:
        """End it in order (SIGTERM) and wait; killed if that takes longer than 20 s."""
        if self._process is None:
            return
        self.thaw()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._forget()

    def kill(self) -> None:
        """End it at once (SIGKILL), frozen or not: what it did not write is lost."""
        if self._process is not None:
            self._process.kill()
            self._forget()

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP): its connections stay open and silent. Returns when all its threads stand."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually_sync(lambda: _stands(self.pid))

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def _is_up(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            status = self._process.returncode
            self._forget()
            raise self._error(f"ended with status {status}")
        try:
            return self._answers()
        except OSError:
            return False

    def _forget(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        _running.discard(self)

    def _error(self, what: str) -> ServerError:
        log = self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:] if self.log.exists() else ""
        return ServerError(f"{self.name} on port {self.port} {what}\n{log}".rstrip())


class KafkaServer(Server):
    """Apache Kafka: one node, broker and controller at once; nothing is created that was not asked for.

    Parameters
    ----------
    directory, port
        As of `Server`.
    properties
        Broker properties that win over those below.
    heap_mb
        Its largest heap, in MiB.
    """

    name = "kafka"

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        properties: Mapping[str, str | int] | None = None,
        heap_mb: int = 512,
    ) -> None:
        ports = _free_ports()
        super().__init__(directory, port=next(ports) if port is None else port)
        controller_port = next(free for free in ports if free != self.port)
        self.heap_mb = heap_mb
        self.properties: dict[str, str | int] = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "log.dirs": str(self.directory / "data"),
            "auto.create.topics.enable": "false",
            # a killed broker may register again only when its last session is over
            "broker.session.timeout.ms": 3_000,
            "broker.heartbeat.interval.ms": 500,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1_000,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 5,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 5,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # a small machine: fewer threads and buffers
            "num.network.threads": 2,
            "num.io.threads": 4,
            "background.threads": 2,
            "log.cleaner.dedupe.buffer.size": 16 * 2**20,
            **(properties or {}),
        }

    @property
    def url(self) -> str:
        """``host:port``, as in JOURNEY_KAFKA_URL."""
        return f"{HOST}:{self.port}"

    def _prepare(self) -> None:
        jars = kafka_jars()
        lines = (f"{name}={value}\n" for name, value in self.properties.items())
        self._settings.write_text("".join(lines))
        self._logging.write_text(LOGGING)
        if (Path(str(self.properties["log.dirs"])) / "meta.properties").exists():
            return
        formatting = [*_java(jars, self._logging, heap_mb=128), "kafka.tools.StorageTool", "format"]
        formatting += ["--cluster-id", CLUSTER_ID, "--config", str(self._settings)]
        with self.log.open("ab") as log:
            done = subprocess.run(formatting, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise self._error("could not be formatted")

    def _command(self) -> Sequence[str]:
        return [*_java(kafka_jars(), self._logging, heap_mb=self.heap_mb), "kafka.Kafka", str(self._settings)]

    def _answers(self) -> bool:
        # FindCoordinator, version 0, of a group "ready": only a broker that leads its offsets topic has an answer, so
        # the first group need not wait for that topic to be created
        group = b"ready"
        body = struct.pack(">hhihh", 10, 0, 1, -1, len(group)) + group
        with socket.create_connection((HOST, self.port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            answer = _read(connection, 10)
        error_code: int = struct.unpack(">iih", answer)[2]
        return error_code == 0

    @property
    def _settings(self) -> Path:
        return self.directory / "server.properties"

    @property
    def _logging(self) -> Path:
        return self.directory / "log4j2.properties"


class RedisServer(Server):
    """Redis without persistence: what it held is gone when it is killed."""

    name = "redis"

    @property
    def url(self) -> str:
        """``redis://host:port/0``, as in JOURNEY_REDIS_URL."""
        return f"redis://{HOST}:{self.port}/0"

    def _prepare(self) -> None:
        if shutil.which("redis-server") is None:
            raise ServerNotPreparedError(NOT_PREPARED.format(what="redis-server"))

    def _command(self) -> Sequence[str]:
        where = ["--bind", HOST, "--port", str(self.port), "--dir", str(self.directory)]
        return ["redis-server", *where, "--save", "", "--appendonly", "no"]

    def _answers(self) -> bool:
        with socket.create_connection((HOST, self.port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return _read(connection, 7) == b"+PONG\r\n"


NOT_PREPARED: Final = "{what} is not prepared on this machine: run `make test`, or scripts/test-deps alone"
CLUSTER_ID: Final = "am91cm5leS10ZXN0LTAwMA"  # any 16 bytes in base64
LOGGING: Final = """\
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %-5p %c{1}: %m%n
# hundreds of lines that repeat the configuration
logger.config.name=org.apache.kafka.common.config
logger.config.level=WARN
"""


def kafka_jars() -> Path:
    """Return the folder of Kafka's jars, of the version that tests/kafka/pom.xml names.

    Raises
    ------
    ServerNotPreparedError
        They were not fetched, or for another pom.
    """
    pom = (ROOT / "tests/kafka/pom.xml").read_text()
    version = re.search("<kafka.version>(.+)</kafka.version>", pom)
    if version is None:
        raise ServerNotPreparedError("tests/kafka/pom.xml names no kafka.version")
    jars = ROOT / f".cache/kafka-{version[1]}"
    fetched_for = jars / "pom.xml"
    if shutil.which("java") is None or not fetched_for.exists() or fetched_for.read_text() != pom:
        raise ServerNotPreparedError(NOT_PREPARED.format(what=f"Apache Kafka {version[1]}"))
    return jars


def _java(jars: Path, logging: Path, *, heap_mb: int) -> list[str]:
    # the first compiler alone and the simplest collector: it starts faster on few cores
    speed = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
    logs = [f"-Dlog4j2.configurationFile={logging}", "-Dlog4j2.disableJmx=true"]
    return ["java", f"-Xmx{heap_mb}m", *speed, *logs, "-cp", f"{jars}/*"]


def _free_ports() -> Iterator[int]:
    # each process looks in a stretch of its own, so that two test processes do not choose the same port
    first = os.getpid() * PORTS_PER_PROCESS % len(PORTS)
    for step in range(len(PORTS)):
        port = PORTS[(first + step) % len(PORTS)]
        if port not in _chosen and _is_free(port):
            _chosen.add(port)
            yield port
    raise ServerError(f"no free port from {PORTS.start} to {PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _read(connection: socket.socket, size: int) -> bytes:
    answer = b""
    while len(answer) < size:
        part = connection.recv(size - len(answer))
        if not part:
            raise ConnectionError("closed before the answer")
        answer += part
    return answer


def _spawn(command: Sequence[str], *, log: Path, directory: Path) -> subprocess.Popen[bytes]:
    # Linux sends the signal when the thread ends that started the process: hence one thread for all, which ends with
    # this process. A session of its own keeps a Ctrl-C at the terminal away from the server.
    if shutil.which("setpriv") is not None:
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    with log.open("ab") as output:
        started = _starter.submit(
            subprocess.Popen,
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            start_new_session=True,
        )
        return started.result()


def _kill_all() -> None:
    for server in tuple(_running):
        server.kill()


_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="servers")
_chosen: set[int] = set()
_running: set[Server] = set()
atexit.register(_kill_all)


def _stands(pid: int) -> bool:
    """Tell whether every thread of a process is stopped: a signal reaches those on another core a moment later."""
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}

"""The processes that are measured: started, held still while their work is laid out, and asked what they used."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

ROOT: Final = Path(__file__).parents[1]
LOG_TAIL: Final = 3_000  # characters
TICKS: Final = os.sysconf("SC_CLK_TCK")  # a second of CPU time, as the kernel counts it
LOOK: Final = 0.02  # s between two readings of a meter


class EndedError(Exception):
    """A process that is measured ended too early; the text ends with the tail of its log."""


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used, user and system, all threads; to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid: int) -> float:
    """Return the most memory a process had at a time, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Process:
    """A Python process with an environment of its own; use as a context manager, which ends it."""

    def __init__(self, name: str, arguments: Sequence[str], environment: dict[str, str], directory: Path) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("JOURNEY_")}
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env={**inherited, **environment},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Process id; EndedError when it has ended."""
        if self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-LOG_TAIL:]
            text = f"{self.name} ended with status {self._process.returncode}\n{tail}"
            raise EndedError(text)
        return self._process.pid

    def freeze(self) -> None:
        """Stop it in its tracks."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
                self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@dataclass
class Meter:
    """Reads the CPU times of processes all the while, so that they can be asked for as of any moment."""

    pids: dict[str, Callable[[], int]]
    readings: list[tuple[int, dict[str, float]]] = field(default_factory=list)  # wall clock in ms, CPU seconds

    async def __aenter__(self) -> Meter:
        self._read()
        self._task = asyncio.ensure_future(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _read(self) -> None:
        self.readings.append(
            (time.time_ns() // 1_000_000, {name: cpu_seconds(pid()) for name, pid in self.pids.items()})
        )

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self._read()

    def check(self) -> None:
        """Raise what ended the readings: most likely that a process has ended."""
        if self._task.done():
            self._task.result()

    def used(self, name: str, until: int) -> float:
        """Return the CPU seconds of a process from the beginning to a moment (ms since 1970)."""
        first = self.readings[0][1][name]
        return next((cpu[name] for at, cpu in self.readings if at >= until), self.readings[-1][1][name]) - first

    @property
    def begin(self) -> int:
        """When the readings began, ms since 1970."""
        return self.readings[0][0]


async def until(holds: Callable[[], Awaitable[bool]], *, within: float, every: float = 0.2) -> None:
    """Poll a fact; TimeoutError when it does not hold within so many seconds."""
    async with asyncio.timeout(within):
        while not await holds():
            await asyncio.sleep(every)

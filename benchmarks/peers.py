"""Other engines, each in an environment of its own that is made on demand: their packages are not ours."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

from benchmarks.engine_run import add_topic
from benchmarks.processes import ROOT
from benchmarks.report import Loop
from journey.ids import route
from streams.appends import Log
from streams.raw import RawRecord
from streams.settings import Settings

PINNED: Final = ROOT / "requirements/peers.txt"
ENVIRONMENT: Final = ROOT / ".cache/peers"
WITHIN: Final = 180.0  # s for a run, and for making the environment


class NoPeerError(Exception):
    """A peer could not be installed, or did not run; the text says why in one line."""


def python() -> Path:
    """Return the interpreter of the peers' environment, which is made when it is missing or of other versions.

    Raises
    ------
    NoPeerError
        Its packages could not be installed.
    """
    made_for, found = ENVIRONMENT / "peers.txt", ENVIRONMENT / "bin/python"
    wanted = PINNED.read_text()
    if made_for.exists() and made_for.read_text() == wanted and found.exists():
        return found
    install = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)],
        [*install, "--only-binary", ":all:", "-r", str(PINNED)],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
        except subprocess.TimeoutExpired:
            raise NoPeerError("its packages took too long to install") from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            text = f"its packages cannot be installed: {last}"
            raise NoPeerError(text)
    made_for.write_text(wanted)
    return found


def version(package: str) -> str:
    """Return the pinned version of a package."""
    name = f"{package}=="
    return next(line[len(name) :].split()[0] for line in PINNED.read_text().splitlines() if line.startswith(name))


async def quix(settings: Settings, records: Sequence[RawRecord], directory: Path) -> Loop:
    """Measure a Quix Streams application over events that lie in one topic, keyed by customer.

    Raises
    ------
    NoPeerError
        It could not be installed, or did not take all events.
    """
    interpreter = await asyncio.to_thread(python)
    events, triggers = f"{settings.topic_prefix}quix-events", f"{settings.topic_prefix}quix-triggers"
    for name in (events, triggers):
        await add_topic(settings, name)
    log = await Log(settings.kafka_url, settings.batch_bytes).start()
    by_partition: dict[int, list[tuple[bytes | None, bytes]]] = {}
    for record in records:
        number = route(record.key.decode(), settings.partitions)
        by_partition.setdefault(number, []).append((record.key, record.value))
    await log.append_all(events, by_partition)
    await log.stop()
    group = f"{settings.topic_prefix}quix"
    arguments = [settings.kafka_url, events, triggers, group, str(directory / "quix"), str(len(records))]
    process = await asyncio.create_subprocess_exec(
        str(interpreter), str(Path(__file__).with_name("quix.py")), *arguments, cwd=directory,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(WITHIN):
            told, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        text = f"it did not end within {WITHIN:.0f} s"
        raise NoPeerError(text) from None
    if process.returncode != 0:
        last = (complaint.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        text = f"it ended with status {process.returncode}: {last}"
        raise NoPeerError(text)
    loop = Loop(**orjson.loads(told))
    if loop.events != len(records):
        text = f"it took {loop.events:,} of {len(records):,} events"
        raise NoPeerError(text)
    return loop

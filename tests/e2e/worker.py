"""Worker processes for tests: the real thing, or with a fault planted in this one process.

::

    python -m tests.e2e.worker --roles engine --append 3 --topic customers --when before --signal KILL
    python -m tests.e2e.worker --nursery

A nursery has imported everything once; for each line of JSON it reads it forks
a process that goes on as that worker would. It prints the process id, and the
exit status of each process that ended.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import orjson
from aiokafka import AIOKafkaProducer

from streams import app, cli, faust_fixes
from streams.agents import learn
from streams.alignment import Alignment
from streams.merge import FOR_EVER
from streams.recovery import Recovery
from streams.settings import load

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
CHECKPOINT_PACE = 10_000_000


def main(arguments: Sequence[str]) -> None:
    """Run until the planted fault, or as long as any worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--roles", default="all")
    parser.add_argument("--without", default="", help="corrections of Faust to leave out, comma-separated")
    parser.add_argument("--append", type=int, default=0, help="the n-th batch to a topic whose name has --topic in it")
    parser.add_argument("--topic", default="")
    parser.add_argument("--when", choices=("before", "acknowledged"), default="before")
    parser.add_argument("--signal", choices=("KILL", "STOP", "HANG"), default="KILL")
    parser.add_argument("--clock-ms", type=int, default=0, help="how far this worker's clock is ahead")
    parser.add_argument("--unaligned", action="store_true", help="take the raw topics as they come")
    parser.add_argument("--slow-load", type=float, default=0, help="s that reading the changelog back takes longer")
    told = parser.parse_args(arguments)
    if told.slow_load:
        slow_down(told.slow_load)
    if told.unaligned:
        Alignment.bound = lambda self: FOR_EVER  # type: ignore[method-assign]
    if told.append:
        fault = None if told.signal == "HANG" else signal.Signals[f"SIG{told.signal}"]
        plant(told.append, told.topic, told.when, fault)
    if told.clock_ms:
        wall = app.CLOCK.wall
        app.CLOCK = app.CLOCK._replace(wall=lambda: wall() + told.clock_ms)  # type: ignore[misc]  # Final elsewhere
    if told.without:
        settings = load()
        faust_fixes.apply(
            fetch_wait_ms=settings.fetch_wait_ms,
            fetch_min_bytes=settings.fetch_min_bytes,
            without=frozenset(told.without.split(",")),
        )
    app.run_worker(load(), app.parse_roles(told.roles))


def plant(number: int, topic_part: str, when: str, fault: signal.Signals | None) -> None:
    """Send this process a signal at the n-th sealed batch: before it is sent, or once it is acknowledged.

    Without a signal, wait there for ever.
    """
    original = AIOKafkaProducer.send_batch
    count = 0

    async def send_batch(self: Any, batch: Any, topic: str, *, partition: int) -> Any:
        nonlocal count
        is_ours = topic_part in topic
        count += is_ours
        is_it = is_ours and count == number
        if is_it and fault is None:
            await asyncio.Event().wait()
        if is_it and fault is not None and when == "before":
            os.kill(os.getpid(), fault)
        acknowledged = await original(self, batch, topic, partition=partition)
        if is_it and fault is not None and when == "acknowledged":
            await acknowledged
            os.kill(os.getpid(), fault)
        return acknowledged

    AIOKafkaProducer.send_batch = send_batch


def slow_down(seconds: float) -> None:
    """Let each load of the customer table take longer, as that of millions does."""
    original = Recovery.load

    async def load(self: Recovery, partitions: Iterable[int]) -> None:
        wanted = set(partitions)
        if wanted:
            sys.stderr.write("slow load begins\n")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), seconds)
            sys.stderr.write("slow load ends\n")
        await original(self, wanted)

    Recovery.load = load  # type: ignore[method-assign]


def nursery() -> None:
    """Serve until the standard input ends."""
    importlib.import_module("journey.training")  # River, which a learner would load at each start
    learn.PACE = CHECKPOINT_PACE  # type: ignore[misc]  # Final elsewhere; a test that waits for rest waits for these
    gc.freeze()
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], 0.02)
        if readable:
            line = sys.stdin.readline()
            if not line:
                return
            order = orjson.loads(line)
            pid = os.fork()
            if pid == 0:
                grow_up(order)
            tell(born=pid)
        while (ended := reaped()) is not None:
            tell(ended=ended[0], status=ended[1])


def tell(**what: int) -> None:
    """Print a line of JSON."""
    sys.stdout.write(orjson.dumps(what).decode() + "\n")
    sys.stdout.flush()


def reaped() -> tuple[int, int] | None:
    """Return the process id and the exit status of a child that ended; negative for a signal."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def grow_up(order: dict[str, Any]) -> NoReturn:
    """Become the worker of an order: arguments of this program, or none but roles for the real one."""
    os.setsid()
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(order["environment"])
    signal.signal(signal.SIGUSR1, show_tasks)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(ours, standard)
    faulthandler.register(signal.SIGUSR1, file=2, chain=True)
    status: Any = 0
    try:
        if order["planted"]:
            main(["--roles", order["roles"], *order["planted"]])
        else:
            sys.argv = ["journey", "worker", "--roles", order["roles"]]
            cli.main()
    except SystemExit as leaving:
        status = leaving.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def show_tasks(*_: object) -> None:
    """Print what every task of this process waits for: a test asks when the process does not end."""
    for loop in gc.get_objects():
        if isinstance(loop, asyncio.AbstractEventLoop):
            for task in asyncio.all_tasks(loop):
                task.print_stack(file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:] == ["--nursery"]:
        nursery()
    else:
        main(sys.argv[1:])

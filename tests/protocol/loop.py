"""An event loop that is stepped by hand: no clock, no threads, no selector; one for each simulated process."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any, cast


class _Timer:
    """What can be called off until it happens."""

    __slots__ = ("_args", "_callback", "_is_cancelled")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._callback, self._args, self._is_cancelled = callback, args, False

    def cancel(self) -> None:
        self._is_cancelled = True

    def run(self) -> None:
        if not self._is_cancelled:
            self._callback(*self._args)


class Beside:
    """Something that a thread does."""

    __slots__ = ("_function", "future", "loop")

    def __init__(self, loop: StepLoop, future: asyncio.Future[Any], function: Callable[[], Any]) -> None:
        self.loop, self.future, self._function = loop, future, function

    def run(self) -> None:
        if self.future.done():
            return
        try:
            done = self._function()
        except Exception as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(done)


class StepLoop:
    """Runs what is ready, in order, and returns; what waits goes on when the schedule completes what it waits for.

    The tasks and futures are asyncio's own, and ask no more of a loop than
    this. Context variables are not kept apart: nothing that runs here has any.
    """

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self._ready: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._is_closed = False
        self._turns = 0
        self.seconds = 0.0

    def step(self) -> None:
        """Run until nothing is ready."""
        ready = self._ready
        before = events._get_running_loop()
        events._set_running_loop(cast(Any, self))
        try:
            while ready:
                callback, args = ready.popleft()
                callback(*args)
        finally:
            events._set_running_loop(before)

    def pass_time(self, seconds: float) -> None:
        """Move this loop's clock on, and run what was waiting for that."""
        self.seconds += seconds
        while self._timers and self._timers[0][0] <= self.seconds:
            self._ready.append((heappop(self._timers)[2].run, ()))
        self.step()

    def shut(self) -> None:
        """Nothing runs here any more, as after the end of a process: whatever waits will wait for ever."""
        self._is_closed = True
        self._ready.clear()
        self._timers.clear()

    def bury(self, ignored: type[BaseException]) -> None:
        """Take the coroutines apart that still wait, so that no destructor does it at another moment."""
        self.shut()
        before = events._get_running_loop()
        events._set_running_loop(cast(Any, self))
        try:
            for task in self._tasks:
                if not task.done():
                    try:
                        coro = task.get_coro()
                        if coro is not None:
                            coro.close()
                    except (ignored, RuntimeError):
                        pass
        finally:
            events._set_running_loop(before)
        self._tasks.clear()

    # --- what asyncio asks of a loop

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        if self._is_closed:
            return None
        if context is not None:  # of a task or a future: nobody calls it off
            self._ready.append((callback, args))
            return None
        timer = _Timer(callback, args)
        self._ready.append((timer.run, ()))
        return timer

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        timer = _Timer(callback, args)
        self._turns += 1
        heappush(self._timers, (when, self._turns, timer))
        return timer

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        return self.call_at(self.seconds + delay, callback, *args)

    def time(self) -> float:
        return self.seconds

    def run_in_executor(self, executor: None, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Do something beside the loop: at once, or when the schedule lets it; until then the loop turns."""
        beside = Beside(self, self.create_future(), function)
        if self.owner.is_beside_slow:
            self.owner.broker.beside.append(beside)
        elif not self._is_closed:
            self._ready.append((beside.run, ()))
        return beside.future

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(Any, self))

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None) -> Any:
        task: Any = asyncio.Task(coro, loop=cast(Any, self))
        task._log_destroy_pending = False
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A task's error that nobody looked at: all are told to the process where they arise."""

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._is_closed

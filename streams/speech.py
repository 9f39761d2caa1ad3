"""What a worker writes to its log: as text or as JSON, seldom the same, and nothing of any customer.

Log lines name positions (topic, partition, offset), never keys, ids or values:
with a position the operator finds the record, and who reads logs learns
nothing of people. Texts of errors that are not ours may hold anything, so of
those only the kind is written, with the places in the code.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Protocol

import orjson
from aiokafka.errors import KafkaError

from journey.errors import StateError, TooLargeError
from journey.triggers import rfc3339
from streams.errors import ShellError
from streams.settings import Settings

LIBRARIES: Final = ("aiokafka", "faust", "mode")  # whose words are rationed
SELDOM: Final = 10.0  # s between two messages of a library that begin alike
TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# errors whose words are ours, or the broker's: they tell positions, names of topics and addresses
SPOKEN: Final = (ShellError, StateError, TooLargeError, KafkaError, OSError)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Clock(Protocol):
    """The clocks of the shell."""

    @property
    def wall(self) -> Callable[[], int]: ...
    @property
    def steady(self) -> Callable[[], float]: ...


def begin(settings: Settings, roles: Sequence[str], clock: Clock) -> LastError:
    """Set up logging for a worker; return what remembers the last error."""
    shown = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        shown.setFormatter(Lines(",".join(roles), settings.instance_id))
    else:
        shown.setFormatter(Words(TEXT))
    shown.addFilter(Seldom(LIBRARIES, SELDOM, clock.steady))
    errors = LastError(clock.wall)
    logging.basicConfig(level=settings.log_level, handlers=[shown, errors], force=True)
    for noisy in LIBRARIES:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    return errors


def words_of(error: BaseException) -> str:
    """Return what may be written of an error: its kind, and its words if they cannot be about a customer."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, SPOKEN) else name


def traced(error: BaseException) -> str:
    """Return where an error came from, through all its causes, outermost last."""
    parts: list[str] = []
    here: BaseException | None = error
    while here is not None and len(parts) < 10:
        frames = "".join(traceback.format_tb(here.__traceback__))
        parts.append(f"{frames}{words_of(here)}")
        here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
    return "\n".join(reversed(parts))


def unhandled(loop: Any, context: dict[str, Any]) -> None:
    """Log what nobody awaited; asyncio's own words would show the error, and what the task holds."""
    error = context.get("exception")
    told = context.get("message") or "unhandled error in the event loop"
    logging.getLogger("journey.loop").error("%s", told, exc_info=error)


class Words(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        record.exc_text = None  # as another formatter may have left it
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the name is the library's
        """Return a traceback without the words of errors that are not ours."""
        return traced(ei[1]) if ei[1] is not None else ""


class Lines(Words):
    """One JSON object a line, for programs."""

    def __init__(self, role: str, instance: str | None) -> None:
        super().__init__()
        self._role, self._instance = role, instance

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        told: dict[str, Any] = {
            "at": rfc3339(round(record.created * 1000)), "level": record.levelname, "logger": record.name,
            "role": self._role, "text": record.getMessage(),
        }  # fmt: skip
        if self._instance is not None:
            told["instance"] = self._instance
        if record.exc_info and record.exc_info[1] is not None:
            told["trace"] = traced(record.exc_info[1])
        return orjson.dumps(told).decode()


class LastError(logging.Handler):
    """Remembers the last error that was logged. As the log does, it holds nothing of customers."""

    def __init__(self, wall: Callable[[], int]) -> None:
        super().__init__(logging.ERROR)
        self._wall = wall
        self.last: dict[str, Any] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take one."""
        self.last = {"at": self._wall(), "logger": record.name, "text": record.getMessage()}


class Seldom(logging.Filter):
    """Lets libraries say the same thing once in a while: without a broker aiokafka says it a hundred times a second.

    Messages are the same when they begin alike; how many were left out is said with the next one.
    """

    def __init__(self, names: Sequence[str], every: float, steady: Callable[[], float]) -> None:
        super().__init__()
        self._names, self._every, self._steady = tuple(names), every, steady
        self._last: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be written."""
        if not record.name.startswith(self._names):
            return True
        text = record.getMessage()
        alike = f"{record.name} {text[:24]}"
        now = self._steady()
        last, left_out = self._last.get(alike, (-self._every, 0))
        if now - last < self._every:
            self._last[alike] = (last, left_out + 1)
            return False
        self._last[alike] = (now, 0)
        if left_out:
            record.msg, record.args = f"{text} (and {left_out} more like it)", ()
        return True

"""What is written to the log, and what never is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from journey.engine import PoisonError
from journey.errors import NotJsonError
from streams import speech
from streams.customers import Customers
from streams.errors import LogTruncatedError, PoisonFloodError, TableRecordError
from streams.settings import Settings
from streams.speech import Lines, Seldom, Words, traced, words_of
from streams.stores import MemoryStore

SECRET = "u:mei@example.org"  # of a customer


def failing(error: BaseException) -> BaseException:
    """Return an error as it is after it was raised, with another one as its cause."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as cause:
            raise error from cause
    except BaseException as raised:
        return raised


def record_of(error: BaseException) -> logging.LogRecord:
    return logging.LogRecord(
        "journey.x", logging.ERROR, "x.py", 1, "it %s", ("broke",), (type(error), error, error.__traceback__)
    )


def test_words_of_errors_that_are_not_ours_are_not_written() -> None:
    assert words_of(ValueError(SECRET)) == "ValueError"
    assert words_of(NotJsonError(f"unexpected {SECRET}")) == "NotJsonError"
    assert words_of(LogTruncatedError("events.cart/1 ends at 3")) == "LogTruncatedError: events.cart/1 ends at 3"
    told = traced(failing(ValueError(SECRET)))
    assert SECRET not in told
    assert "KeyError" in told
    assert "ValueError" in told
    assert "test_speech.py" in told


@pytest.mark.parametrize("formatter", [Words(speech.TEXT), Lines("engine", "one")])
def test_neither_form_of_a_line_holds_what_an_error_holds(formatter: logging.Formatter) -> None:
    line = formatter.format(record_of(failing(RuntimeError(SECRET))))
    assert "it broke" in line
    assert "RuntimeError" in line
    assert SECRET not in line


def test_a_line_of_json_has_what_programs_look_for() -> None:
    record = record_of(failing(ValueError(SECRET)))
    record.created = 1_795_162_442.1
    told = orjson.loads(Lines("ingest,engine", "slot-1").format(record))
    assert told.pop("trace").endswith("ValueError")
    assert told == {
        "at": "2026-11-20T08:14:02.100Z", "level": "ERROR", "logger": "journey.x", "role": "ingest,engine",
        "instance": "slot-1", "text": "it broke",
    }  # fmt: skip


def test_our_own_errors_name_positions_and_not_people() -> None:
    poison = PoisonError(7, 2, ValueError(SECRET))
    assert str(poison) == "entry 2 of page 7: ValueError"
    assert SECRET not in str(PoisonFloodError(f"10 entries, the last one: {poison}"))
    table = Customers(MemoryStore(), "changelog")
    table.begin(0, (0, 1))
    bad = SimpleNamespace(offset=0, key=SECRET.encode(), value=f'"{SECRET}"'.encode())
    with pytest.raises(TableRecordError) as raised:
        table.take(0, [bad])
    assert SECRET not in str(raised.value)
    assert "changelog/0 at 0" in str(raised.value)


async def test_what_nobody_awaited_is_told_without_what_it_holds(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    context: dict[str, Any] = {"message": "Task exception was never retrieved", "exception": failing(KeyError(SECRET))}
    speech.unhandled(loop, context | {"future": f"<Task {SECRET}>"})
    assert [SECRET in Words(speech.TEXT).format(record) for record in caplog.records] == [False]
    assert caplog.messages == ["Task exception was never retrieved"]


@pytest.fixture
def untouched() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("untouched")
def test_a_worker_logs_in_the_form_that_is_set_and_remembers_the_last_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock: Any = SimpleNamespace(wall=lambda: 5, steady=lambda: 0.0)
    errors = speech.begin(Settings(log_format="json"), ["engine"], clock)
    logging.getLogger("journey.x").error("no room")
    assert orjson.loads(capsys.readouterr().err)["text"] == "no room"
    assert errors.last == {"at": 5, "logger": "journey.x", "text": "no room"}
    assert any(isinstance(one, Seldom) for handler in logging.getLogger().handlers for one in handler.filters)

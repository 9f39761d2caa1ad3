"""Libraries are rationed, our own words are not."""

from __future__ import annotations

import logging

from streams.speech import Seldom


def a_record(name: str, text: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, text, (), None)


def test_the_same_words_of_a_library_are_written_once_in_ten_seconds_and_counted() -> None:
    now = [100.0]
    seldom = Seldom(("aiokafka",), 10.0, lambda: now[0])
    texts = [f"Unable connect to node with id {number}" for number in range(3)]
    assert [seldom.filter(a_record("aiokafka", text)) for text in texts] == [True, False, False]
    assert seldom.filter(a_record("aiokafka.cluster", texts[0]))
    now[0] += 10.0
    record = a_record("aiokafka", texts[0])
    assert seldom.filter(record)
    assert record.getMessage() == f"{texts[0]} (and 2 more like it)"


def test_our_own_words_are_never_left_out() -> None:
    seldom = Seldom(("aiokafka",), 10.0, lambda: 0.0)
    assert all(seldom.filter(a_record("journey.engine", "poison")) for _ in range(3))

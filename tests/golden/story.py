"""A story of a small shop and what comes of it: ``story.jsonl``, ``story.triggers.jsonl``, ``story.state.json``.

``python -m tests.golden.story`` writes what comes out now. It refuses when
that differs while ``FOLD_VERSION`` is the recorded one, since state in the
world was folded by it; ``--unreleased`` says that there is no such state yet.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import orjson

from journey.engine import Shard, fold
from journey.entries import Entry, read_page
from journey.state import FOLD_VERSION, partition_key
from streams.records import parse_control, parse_events
from tests.factories import Raw, encoded_pages, loaded

FOLDER: Final = Path(__file__).parent
STORY: Final = FOLDER / "story.jsonl"
TRIGGERS: Final = FOLDER / "story.triggers.jsonl"
STATE: Final = FOLDER / "story.state.json"
PAGE_ENTRIES: Final = 7
LETTERS: Final = 2  # events of the story that are refused


def entries() -> list[Entry]:
    """Return the journal of the story, in one partition."""
    journal: list[Entry] = []
    offsets: dict[str, int] = {}
    letters = 0
    for line in STORY.read_bytes().splitlines():
        told = orjson.loads(line)
        topic: str = told["topic"]
        offset = offsets[topic] = offsets.get(topic, -1) + 1
        record = Raw(orjson.dumps(told["value"]), topic, offset, timestamp=told["at"])
        if topic == "journey.control":
            (parsed,) = parse_control([record], 1)
        else:
            (parsed,) = parse_events(topic.removeprefix("events."), [record], 1)
        journal += [entry for _, entry in loaded(parsed)]
        letters += parsed.dead_letter is not None
    if letters != LETTERS:
        msg = f"{letters} events of the story are refused, not {LETTERS}"
        raise ValueError(msg)
    return journal


def outcome() -> tuple[bytes, bytes]:
    """Return what the fold makes of the story: its triggers, a line each, and all records."""
    shard = Shard(0, lambda _key: None, ())
    for offset, page in enumerate(encoded_pages(entries(), PAGE_ENTRIES)):
        fold(shard, offset, read_page(page))
    triggers = b"".join(orjson.dumps(trigger.body) + b"\n" for trigger in shard.triggers)
    shown = {key.decode().lstrip("\0"): orjson.loads(record) for key, record in shard.changes()}
    return triggers, orjson.dumps(shown, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2) + b"\n"


def recorded_version() -> int:
    """Return the version of the fold whose outcome is recorded."""
    version: int = orjson.loads(STATE.read_bytes())[partition_key(0).decode().lstrip("\0")]["fold"]
    return version


def write(triggers: bytes, state: bytes, *, is_released: bool) -> str | None:
    """Record an outcome; return why not."""
    is_same = STATE.exists() and (triggers, state) == (TRIGGERS.read_bytes(), STATE.read_bytes())
    if is_released and not is_same and recorded_version() == FOLD_VERSION:
        return f"the outcome changed and FOLD_VERSION is still {FOLD_VERSION}: raise it in journey/state.py"
    TRIGGERS.write_bytes(triggers)
    STATE.write_bytes(state)
    return None


if __name__ == "__main__":
    sys.exit(write(*outcome(), is_released="--unreleased" not in sys.argv))

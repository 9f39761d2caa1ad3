"""The only reader of the environment. A mistyped name fails instead of doing nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from streams.errors import SettingsError

PREFIX = "JOURNEY_"
JOURNAL = "journey.journal"
SAMPLES = "journey.samples"
CHECKPOINTS = "journey.checkpoints"
# what is made from one journal alone: another epoch's has its number in the name. Models are of all epochs: a rebuilt
# journal adopts the versions that the first one did
OF_A_JOURNAL = frozenset((JOURNAL, SAMPLES, CHECKPOINTS))
EXAMPLE_KEY = "example-key-change-me"  # so that the demo works out of the box; `journey doctor` warns of it
LEAST_KEY = 16  # characters
# read by make, tests and benchmarks, not by the program
ELSEWHERE = frozenset(("JOURNEY_DATA",))


def several(text: str | None) -> tuple[str, ...]:
    """Return the parts of a text with commas.

    >>> several("the key of before, and the one before that"), several(None)
    (('the key of before', 'and the one before that'), ())
    """
    return () if text is None else tuple(part.strip() for part in text.split(","))


def _keys(text: str | None) -> str | None:
    if any(len(key) < LEAST_KEY for key in several(text)):
        msg = f"each key has at least {LEAST_KEY} characters; between several stand commas"
        raise ValueError(msg)
    return text


class Epoch(BaseModel):
    """Which journal and which state are meant. The journal of epoch 1 has no number in its name, nor has the state.

    ``since`` is, for each journal partition, the last page that was folded when the epoch became live: what it
    causes was told before. ``triggers`` are the ends of the trigger partitions at that moment, and ``raw`` says up
    to where (the next offset) the raw partitions are in a rebuilt journal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    journal: int = 1
    state: int = 1
    since: dict[int, int] = {}
    triggers: dict[int, int] = {}
    raw: dict[str, int] = {}


class Settings(BaseModel):
    """What a deployment may change. Each is an environment variable ``JOURNEY_<NAME>``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka_url: Annotated[str, Field(description="bootstrap servers, host:port, comma-separated")] = "127.0.0.1:9092"
    redis_url: Annotated[str, Field(description="read model; empty: none")] = "redis://127.0.0.1:6379/0"
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,100}$", description="before every name")] = ""
    partitions: Annotated[int, Field(ge=1, le=1024, description="journal partitions, for ever")] = 8
    replication: Annotated[int, Field(ge=1, le=9, description="copies of a new topic")] = 1
    session_timeout: Annotated[float, Field(ge=1, le=300, description="s until a silent worker is replaced")] = 15.0
    instance_id: Annotated[str | None, Field(description="stable name of a worker's slot")] = None
    page_entries: Annotated[int, Field(ge=1, le=1000, description="most entries in a journal page")] = 1000
    chunk_records: Annotated[int, Field(ge=1, le=10_000, description="most raw records in a chunk")] = 1000
    held_records: Annotated[int, Field(ge=100, description="most held to merge backlogs by time")] = 100_000
    group_chunks: Annotated[int, Field(ge=1, le=256, description="most chunks in a group")] = 32
    batch_bytes: Annotated[int, Field(ge=10_000, le=900_000, description="most bytes of a record batch")] = 900_000
    commit_interval: Annotated[float, Field(ge=0.05, le=60, description="s between commits")] = 1.0
    fetch_wait_ms: Annotated[int, Field(ge=1, le=1500, description="ms the broker may gather records")] = 500
    fetch_min_bytes: Annotated[int, Field(ge=1, le=1 << 20, description="bytes the broker waits for")] = 1
    fetch_pace_ms: Annotated[int, Field(ge=0, le=1000, description="least ms between two fetches")] = 20
    catch_up_minutes: Annotated[int, Field(ge=0, le=1440, description="ticks wait for unread records so long")] = 15
    stuck_after: Annotated[
        float, Field(ge=0, le=86_400, description="s without progress until a worker ends; 0: never")
    ] = 300.0
    store: Annotated[str, Field(pattern="^(memory|rocksdb)$", description="of customers: memory or rocksdb")] = "memory"
    datadir: Annotated[str, Field(min_length=1, description="folder of JOURNEY_STORE=rocksdb")] = "journey-data"
    http: Annotated[
        str,
        Field(pattern=r"^(.*:[0-9]{1,5})?$", description="where a worker tells how it is, host:port; empty: nowhere"),
    ] = "127.0.0.1:9646"
    log_format: Annotated[str, Field(pattern="^(text|json)$", description="of a worker's log: text or json")] = "text"
    log_level: Annotated[
        str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR")
    ] = "INFO"

    model_key: Annotated[
        str, Field(min_length=LEAST_KEY, repr=False, description="secret that signs models, the same everywhere")
    ] = EXAMPLE_KEY
    model_key_old: Annotated[
        str | None,
        AfterValidator(_keys),
        Field(repr=False, description="those before, with commas, still believed after a change"),
    ] = None
    promote: Annotated[str, Field(pattern="^(auto|manual)$", description="better challengers, auto or manual")] = (
        "manual"
    )
    checkpoint_samples: Annotated[int, Field(ge=1, le=100_000, description="most samples learned again")] = 5000

    _epoch: Epoch = PrivateAttr(default_factory=Epoch)

    @property
    def epoch(self) -> Epoch:
        """The epoch that is meant: the first, unless ``at`` said otherwise."""
        return self._epoch

    def at(self, epoch: Epoch) -> Settings:
        """Return the same for another epoch."""
        moved = self.model_copy()
        moved._epoch = epoch  # noqa: SLF001  # our own
        return moved

    def app_id(self, role: str) -> str:
        """Return the id of a role's application, which is its consumer group."""
        journal = self._epoch.journal
        number = {"ingest": journal, "engine": self._epoch.state, "learn": journal}.get(role, 1)
        return f"{self.topic_prefix}journey-{role}{_numbered(number)}"

    @property
    def source(self) -> str:
        """What samples call the journal: its name without the prefix."""
        return JOURNAL + _numbered(self._epoch.journal)

    def topic(self, name: str) -> str:
        """Return a topic's full name."""
        return self.topic_prefix + name + (_numbered(self._epoch.journal) if name in OF_A_JOURNAL else "")


def _numbered(epoch: int) -> str:
    return "" if epoch == 1 else f".e{epoch}"


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of an environment, the process's own by default.

    Raises
    ------
    SettingsError
        An unknown ``JOURNEY_`` variable, or a value out of range.
    """
    source = os.environ if environment is None else environment
    told = {
        name[len(PREFIX) :].lower(): value
        for name, value in source.items()
        if name.startswith(PREFIX) and name not in ELSEWHERE
    }
    try:
        return Settings.model_validate(told)
    except ValidationError as error:
        lines = [f"{PREFIX}{str(fault['loc'][0]).upper()}: {_told(fault)}" for fault in error.errors()]
        raise SettingsError("; ".join(lines)) from None


def _told(fault: Any) -> str:
    if fault["type"] != "extra_forbidden":
        return str(fault["msg"])
    near = get_close_matches(str(fault["loc"][0]), Settings.model_fields, n=1)
    return "no such setting" + (f", did you mean {PREFIX}{near[0].upper()}?" if near else "")

"""The tree of what can go wrong in the domain, sorted by what the shell does about it.

::

    JourneyError
    ├── EventError          dead-letters the event and goes on
    │   ├── NotJsonError, TooLargeError, UnknownTypeError, WrongTopicError, UnsupportedVersionError
    │   └── MissingIdError, BlockedIdError, MissingFieldError, BadFieldError, BadTimeError, BadMoneyError
    ├── ModelError          goes on without a score, or with the model there was
    │   └── BadRowError, BadSnapshotError
    └── StateError          stops before anything is acknowledged
        └── StateVersionError, FoldVersionError, PositionGapError, MissingModelError, MissingConfigError
"""

from __future__ import annotations


class JourneyError(Exception):
    """Everything the domain raises on purpose."""


class EventError(JourneyError):
    """An event cannot be accepted: it becomes a dead letter, its neighbours are not touched."""

    reason = "bad_field"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        self.detail, self.field = detail, field
        super().__init__(f"{self.reason}: {field + ': ' if field else ''}{detail}")


class NotJsonError(EventError):
    """The bytes are not one JSON object in UTF-8."""

    reason = "not_json"


class TooLargeError(EventError):
    """Over a limit of size, depth or length."""

    reason = "too_large"


class UnknownTypeError(EventError):
    """No event of this type is known."""

    reason = "unknown_type"


class WrongTopicError(EventError):
    """The type is known and belongs to another topic."""

    reason = "wrong_topic"


class UnsupportedVersionError(EventError):
    """The major version is newer than this reader."""

    reason = "unsupported_version"


class MissingIdError(EventError):
    """Neither a user id nor an anonymous id."""

    reason = "missing_id"


class BlockedIdError(EventError):
    """The only ids are values that programs write when they have none (``null``, ``guest``)."""

    reason = "blocked_id"


class MissingFieldError(EventError):
    """A required field is absent, null or empty."""

    reason = "missing_field"


class BadFieldError(EventError):
    """A field has the wrong type or is outside its range."""

    reason = "bad_field"


class BadTimeError(EventError):
    """A time is not RFC 3339 or lies before the year 2000."""

    reason = "bad_time"


class BadMoneyError(EventError):
    """An amount is not an integer of minor units, or a currency is not an ISO 4217 code."""

    reason = "bad_money"


class ModelError(JourneyError):
    """A model cannot answer or learn; the event is folded all the same."""


class BadRowError(ModelError):
    """A feature is absent, infinite, or unknown where it was to be learned."""

    def __init__(self, *, name: str, value: object) -> None:
        self.name, self.value = name, value
        super().__init__(f"{name}: {value!r} cannot be scored or learned")


class BadSnapshotError(ModelError):
    """What a snapshot holds cannot be a model: another schema, a number that is none, weights that exploded."""


class StateError(JourneyError):
    """Going on would damage state: the worker stops before it acknowledges anything."""


class StateVersionError(StateError):
    """A customer record was written by newer code than this.

    Operator: keep the table. Start the newer worker again, or replay the
    journal with this one.
    """

    def __init__(self, *, found: int, newest_known: int) -> None:
        self.found, self.newest_known = found, newest_known
        super().__init__(f"state version {found} is newer than {newest_known}: start the newer worker")


class FoldVersionError(StateError):
    """The live state was folded by another version of the fold; mixing two would make replay differ.

    Operator: keep the table and the journal. Start the worker version that
    wrote the state, or fold the journal into a new table with this version
    and switch to it.
    """

    def __init__(self, *, partition: int, found: int, ours: int) -> None:
        self.partition, self.found, self.ours = partition, found, ours
        super().__init__(
            f"journal partition {partition} was folded by fold version {found}, this worker has {ours}: "
            f"start a worker of fold version {found}, or fold the journal anew with this one (`journey upgrade`)"
        )


class PositionGapError(StateError):
    """A log was not delivered without holes; going on would lose events for ever.

    Operator: keep everything. Start the worker again: it reads from the last
    acknowledged position. If it stops here again, records were deleted from
    the log before they were read (retention, or a topic that was recreated).
    """

    def __init__(self, *, log: str, found: int, expected: int) -> None:
        self.log, self.found, self.expected = log, found, expected
        super().__init__(f"{log}: offset {found} was delivered where {expected} was expected")


class MissingModelError(StateError):
    """The journal adopts a model whose snapshot is not at hand; without it state would depend on the worker.

    Operator: keep everything. Look whether the snapshot it names is in the
    topic ``journey.models`` and is signed with the key of this worker
    (JOURNEY_MODEL_KEY); restore the topic from a backup if it is not.
    """

    def __init__(self, *, model: str, version: int, text: str) -> None:
        self.model, self.version = model, version
        super().__init__(f"model {model}/{version} was adopted in the journal and cannot be used: {text}")


class MissingConfigError(StateError):
    """The journal uses a configuration that is not at hand; without it state would depend on the worker.

    Operator: keep everything. Look whether ``journey.config`` still has the
    record of this hash; publish the same file again with
    ``journey config use FILE`` if it has not.
    """

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        super().__init__(f"configuration {sha256[:12]} is in force in the journal and is not at hand")

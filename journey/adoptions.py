"""Which model is in force in each slot: a fold of adoptions, the same over the control log and over a journal.

A *slot* is a place in the engine (``churn``), a *model* is what fills it: the
slot's own champion, which has its name, or a challenger that was promoted
(``churn.boosted``). An adoption names the version that it replaces, and counts
only where that one is in force. So one that is repeated, or comes too late,
changes nothing, and cannot undo a rollback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from journey.errors import BadFieldError, EventError, MissingFieldError

InForce = dict[str, list[Any]]  # slot: model, version, sha256; plain JSON, since the engine keeps it with its state

GREATEST: Final = 2**53 - 1
NAME_CHARS: Final = 100
HEX: Final = frozenset("0123456789abcdef")
TRUSTS: Final = ("cold", "shadow", "trusted")  # how far a version is believed, by its learner


def apply(in_force: InForce, entry: Mapping[str, Any]) -> bool:
    """Let an adoption count, if it replaces what is in force; return whether it changed anything.

    >>> force: InForce = {}
    >>> first = {"k": "adopt", "slot": "churn", "model": "churn", "version": 1, "replaces": None, "sha256": "9b1d"}
    >>> apply(force, first), apply(force, first), force
    (True, False, {'churn': ['churn', 1, '9b1d']})
    """
    slot = entry.get("slot") or entry["model"]
    known = in_force.get(slot)
    if entry.get("replaces") != (None if known is None else known[1]):
        return False
    new = [entry["model"], entry["version"], entry["sha256"]]
    if new == known:
        return False
    in_force[slot] = new
    return True


def adoption(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a control message that adopts, without its time and source.

    Raises
    ------
    EventError
        A field is missing, or is none that the fold could read.
    """
    entry: dict[str, Any] = {"k": "adopt", "slot": slot_of(message), "model": _name(message, "model")}
    for name in ("version", "replaces"):
        value = message.get(name)
        if value is None and name == "version":
            msg = "required"
            raise MissingFieldError(msg, field=name)
        if value is not None and not _is_count(value):
            msg = "a whole number from 0 on"
            raise BadFieldError(msg, field=name)
        entry[name] = value
    digest = message.get("sha256")
    if not digest:
        msg = "required"
        raise MissingFieldError(msg, field="sha256")
    if not isinstance(digest, str) or len(digest) > 64 or not HEX.issuperset(digest):
        msg = "hexadecimal, of at most 64 characters"
        raise BadFieldError(msg, field="sha256")
    entry["sha256"] = digest
    time_of(message)
    trust_of(message)
    return entry


def slot_of(message: Mapping[str, Any]) -> str:
    """Return the slot that a message is about; of an adoption without one, the model's own.

    Raises
    ------
    EventError
        It is missing, or is no name.
    """
    is_own = not message.get("slot") and message.get("k") == "adopt"
    return _name(message, "model" if is_own else "slot")


def time_of(message: Mapping[str, Any]) -> int:
    """Return up to when (ms) the adopted version had learned; 0 where that is not told.

    Raises
    ------
    BadFieldError
        It is no time.
    """
    at = message.get("at")
    if at is None:
        return 0
    if not _is_count(at):
        msg = "milliseconds since 1970"
        raise BadFieldError(msg, field="at")
    return int(at)


def trust_of(message: Mapping[str, Any]) -> str | None:
    """Return how far the adopted version was believed; None where that is not told.

    Raises
    ------
    BadFieldError
        It is none of ``TRUSTS``.
    """
    trust = message.get("trust")
    if trust is None:
        return None
    if trust not in TRUSTS:
        msg = f"one of {', '.join(TRUSTS)}"
        raise BadFieldError(msg, field="trust")
    return str(trust)


def _name(message: Mapping[str, Any], field: str) -> str:
    value = message.get(field)
    if value is None or value == "":
        msg = "required"
        raise MissingFieldError(msg, field=field)
    if not isinstance(value, str) or len(value) > NAME_CHARS:
        text = f"a text of at most {NAME_CHARS} characters"
        raise BadFieldError(text, field=field)
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= GREATEST


class Adopted(NamedTuple):
    """One adoption that counted: up to when (ms) the version had learned, and how far it was believed then."""

    model: str
    version: int
    sha256: str
    at: int
    trust: str | None = None


@dataclass
class Standing:
    """What the control messages so far amount to. Messages that ingest refuses count for nothing here either."""

    in_force: InForce = field(default_factory=dict)
    frozen: list[str] = field(default_factory=list)  # slots in which nothing is adopted by itself, sorted
    history: dict[str, list[Adopted]] = field(default_factory=dict)  # of each slot what counted, oldest first
    highest: dict[str, int] = field(default_factory=dict)  # of each model the highest version that ever counted

    def take(self, message: Any) -> bool:
        """Take the next message; return whether it changed what is in force or frozen."""
        kind = message.get("k") if isinstance(message, dict) else None
        try:
            if kind == "adopt":
                return self._adopt(message)
            if kind in ("freeze", "unfreeze"):
                return self._freeze(slot_of(message), is_frozen=kind == "freeze")
        except EventError:
            return False
        return False

    def _adopt(self, message: dict[str, Any]) -> bool:
        entry = adoption(message)
        if not apply(self.in_force, entry):
            return False
        model, version = entry["model"], entry["version"]
        adopted = Adopted(model, version, entry["sha256"], time_of(message), trust_of(message))
        self.history.setdefault(entry["slot"], []).append(adopted)
        self.highest[model] = max(version, self.highest.get(model, -1))
        return True

    def _freeze(self, slot: str, *, is_frozen: bool) -> bool:
        if (slot in self.frozen) == is_frozen:
            return False
        self.frozen = sorted([*self.frozen, slot]) if is_frozen else [one for one in self.frozen if one != slot]
        return True

    def version_in(self, slot: str) -> int | None:
        """Return the version in force in a slot: what the next adoption has to replace."""
        known = self.in_force.get(slot)
        return None if known is None else int(known[1])

    def trust_in(self, slot: str) -> str | None:
        """Return how far the version in force was believed when it was adopted; None where that is not told."""
        past = self.history.get(slot)
        return past[-1].trust if past else None


def in_force(messages: Iterable[Any]) -> dict[str, tuple[str, int]]:
    """Return the model and the version in force in each slot after these control messages.

    >>> old = {"k": "adopt", "model": "churn", "version": 1, "sha256": "9b1d"}
    >>> new = {"k": "adopt", "slot": "churn", "model": "churn.boosted", "version": 3, "replaces": 1, "sha256": "77aa"}
    >>> in_force([old, {"k": "freeze", "slot": "churn"}, new, old])
    {'churn': ('churn.boosted', 3)}
    """
    standing = Standing()
    for message in messages:
        standing.take(message)
    return {slot: (str(model), int(version)) for slot, (model, version, _) in standing.in_force.items()}

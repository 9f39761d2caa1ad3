"""Models as they travel: signed JSON. The signature is checked before anything of the model is decoded.

A snapshot is an envelope (who, which version, learned from what, how good) and
a payload (the model). The same samples give the same bytes: nothing in it is
of a clock. There is one kind, ``json``: no snapshot is ever unpickled.
"""

from __future__ import annotations

import hmac
import math
import platform
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any, Final, NamedTuple

import orjson

from journey.adoptions import Standing
from journey.entries import encode
from journey.errors import BadSnapshotError
from journey.samples import CATALOGUE, LEARN_VERSION, SCHEMAS
from journey.scoring import KINDS, Classifier, Loaded, load
from streams.errors import SignatureError, SnapshotError
from streams.settings import Settings, several

SNAPSHOT_VERSION: Final = 1
KIND: Final = "json"
MOST_BYTES: Final = 600_000  # of a payload: in base64 it has to fit a record batch
MOST_WEIGHT: Final = 1e6
MOST_MICROSECONDS: Final = 50.0  # of a score, for a challenger to be promoted by itself
ROWS: Final = 64  # scored to see how long that takes
TIMES: Final = 5
WEIGHTS: Final = frozenset(("weights", "w", "bias", "intercept"))  # fields of a model whose numbers are weights
UNSIGNED: Final = frozenset(("hmac", "payload_b64"))
LEARNERS: Final = "learners"
LIBRARIES: Final = ("river", "numpy", "scipy")
EPOCH_VERSIONS: Final = 1_000_000  # of a model that one journal may bring
RECORD_HEADERS: Final = (("content-type", b"application/json"),)


class Keys(NamedTuple):
    """The key that signs, and those before it, which are still believed after a change."""

    current: bytes
    old: tuple[bytes, ...] = ()


class Snapshot(NamedTuple):
    """A snapshot whose signature is right; ``envelope`` is all but the payload, which is not decoded yet."""

    envelope: dict[str, Any]
    payload: bytes

    @property
    def model(self) -> str:
        """Which model."""
        return str(self.envelope["model"])

    @property
    def version(self) -> int:
        """Which version of it."""
        return int(self.envelope["version"])

    @property
    def sha256(self) -> str:
        """Digest of the payload, by which an adoption names it."""
        return str(self.envelope["sha256"])


def keys_of(settings: Settings) -> Keys:
    """Return the keys of a deployment."""
    return Keys(settings.model_key.encode(), tuple(key.encode() for key in several(settings.model_key_old)))


def key_id(key: bytes) -> str:
    """Return the name of a key, which does not tell the key."""
    return hmac.digest(key, b"journey model key", "sha256").hex()[:16]


def record_key(model: str, number: int) -> bytes:
    """Return the key of a snapshot's record, such as ``churn/42``."""
    return f"{model}/{number}".encode()


def version_of(settings: Settings, version: int) -> int:
    """Return a learner's version as it is published: those of a rebuilt journal follow those of the one before."""
    return version + (settings.epoch.journal - 1) * EPOCH_VERSIONS


def is_of_epoch(settings: Settings, number: int) -> bool:
    """Tell whether a published version was learned from the journal that is live."""
    return number // EPOCH_VERSIONS == settings.epoch.journal - 1


def digest(payload: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a payload, as snapshots and adoptions name it."""
    return sha256(encode(payload)).hexdigest()


def named(key: bytes | None) -> tuple[str, int] | None:
    """Return the model and the version of a record's key; None when it is none of ours.

    >>> named(b"churn.boosted/7"), named(b"churn/x")
    (('churn.boosted', 7), None)
    """
    model, _, number = (key or b"").decode("utf-8", "replace").rpartition("/")
    return (model, int(number)) if model and number.isascii() and number.isdigit() else None


def slot_of(model: str, payload: Mapping[str, Any]) -> str:
    """Return the slot that a model is for: as the model says, else the start of its name.

    >>> slot_of("churn.boosted", {}), slot_of("rules", {"slot": "recs"})
    ('churn', 'recs')
    """
    told = payload.get("slot")
    return told if isinstance(told, str) and told else model.partition(".")[0]


def sign(
    keys: Keys, *, model: str, number: int, parent: int | None, schema: str, trained_through: Mapping[str, int],
    trained: Mapping[str, Any], payload: Mapping[str, Any],
) -> bytes:  # fmt: skip
    """Return the record value of a snapshot.

    Parameters
    ----------
    number
        The version.
    payload
        The model; its ``slot``, ``role`` (champion or challenger), ``verdict`` and ``trust`` are told in the
        envelope, too.
    trained_through
        Next offset of each partition of the samples that it has learned.
    trained
        ``samples``, ``metrics``, and ``at``, the time (ms) of the newest sample; ``trust``, of a payload that does not
        tell it.

    Raises
    ------
    SnapshotError
        The payload cannot be one: too large, or with numbers that no model has.
    """
    name = f"model {model}/{number}"
    try:
        body = encode(payload)
    except TypeError as error:
        text = f"{name} is no JSON: {error}"
        raise SnapshotError(text) from None
    _check_size(name, body)
    # as JSON has it: what is not finite has become null by now, and would be found by nobody
    _check_numbers(name, payload)
    envelope: dict[str, Any] = {
        "v": SNAPSHOT_VERSION, "model": model, "version": number, "parent": parent, "kind": KIND,
        "slot": slot_of(model, payload), "role": payload.get("role"), "verdict": payload.get("verdict"),
        "schema": schema, "catalogue": CATALOGUE, "library": libraries(trained.get("learners")),
        "trained_through": dict(trained_through), "samples": trained.get("samples"),
        "metrics": trained.get("metrics", {}),
        "trust": payload.get("trust", trained.get("trust", "cold")), "at": trained["at"],
        "sha256": sha256(body).hexdigest(), "key_id": key_id(keys.current),
    }  # fmt: skip
    envelope["hmac"] = _mac(keys.current, envelope)
    return encode(envelope | {"payload_b64": b64encode(body).decode()})


def read(value: bytes | None, keys: Keys) -> Snapshot:
    """Return the snapshot of a record, if it is signed with a key of ours and whole; nothing of the model is decoded.

    Raises
    ------
    SignatureError
        It is not signed, or with another key, or was changed since.
    SnapshotError
        It is no snapshot, or of a kind or a version that this program does not read.
    """
    try:
        told = orjson.loads(value or b"")
        name = f"model {told['model']}/{int(told['version'])}"
        newest, kind, key_name, mac = told["v"], told["kind"], told["key_id"], told["hmac"]
    except (ValueError, KeyError, TypeError):
        text = "a record of the models is no snapshot"
        raise SnapshotError(text) from None
    envelope = {field: content for field, content in told.items() if field != "payload_b64"}
    known = {key_id(key): key for key in (keys.current, *keys.old)}
    if key_name not in known:
        text = f"{name} is signed with the key {key_name!r:.40}, ours are {', '.join(known)}: see JOURNEY_MODEL_KEY"
        raise SignatureError(text)
    if not isinstance(mac, str) or not hmac.compare_digest(mac.encode(), _mac(known[key_name], envelope).encode()):
        text = f"{name} was changed after it was signed: its HMAC does not fit"
        raise SignatureError(text)
    if not isinstance(newest, int) or newest > SNAPSHOT_VERSION:
        text = f"{name} has version {newest!r:.20} of the format, we read {SNAPSHOT_VERSION}: start the newer worker"
        raise SnapshotError(text)
    if kind != KIND:
        text = f"{name} is of the kind {kind!r:.20}: only {KIND} is ever read"
        raise SnapshotError(text)
    try:
        payload = b64decode(told["payload_b64"], validate=True)
    except (Base64Error, ValueError, KeyError, TypeError):
        payload = b""
    if sha256(payload).hexdigest() != envelope.get("sha256"):
        text = f"{name}: the payload is not the one that was signed"
        raise SignatureError(text)
    _check_size(name, payload)
    return Snapshot(envelope, payload)


def payload_of(snapshot: Snapshot) -> dict[str, Any]:
    """Return the model, decoded.

    Raises
    ------
    SnapshotError
        It is no JSON object, or has numbers that no model has.
    """
    name = f"model {snapshot.model}/{snapshot.version}"
    try:
        payload = orjson.loads(snapshot.payload)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        text = f"{name} is no JSON object"
        raise SnapshotError(text)
    _check_numbers(name, payload)
    return payload


def check_fit(envelope: Mapping[str, Any]) -> None:
    """Refuse for adoption what this program would not score with: other features, or worse than the trivial answer.

    A snapshot that was adopted once is read without this: what the journal
    says counts.

    Raises
    ------
    SnapshotError
        The schema is unknown, the catalogue of features another one, or it calls itself trusted and is not.
    """
    name = f"model {envelope['model']}/{envelope['version']}"
    if envelope.get("schema") not in SCHEMAS:
        text = f"{name} has the schema {envelope.get('schema')!r:.40}, we know {', '.join(sorted(SCHEMAS))}"
        raise SnapshotError(text)
    if envelope.get("catalogue") != CATALOGUE:
        text = f"{name} learned from catalogue {envelope.get('catalogue')!r:.20} of the features, ours is {CATALOGUE}"
        raise SnapshotError(text)
    metrics = envelope.get("metrics") or {}
    if envelope.get("trust") != "trusted" or "log_loss" not in metrics:
        return
    loss, baseline = metrics["log_loss"], metrics.get("baseline_log_loss")
    if not _is_number(loss):
        text = f"{name} calls itself trusted, and its log-loss is no number"
        raise SnapshotError(text)
    if _is_number(baseline) and loss > baseline:
        text = f"{name} calls itself trusted, and its log-loss {loss:.4f} is above the baseline's {baseline:.4f}"
        raise SnapshotError(text)


def is_empty(payload: Mapping[str, Any]) -> bool:
    """Tell whether there is no model in it: a fit that failed, or a challenger that is only measured."""
    return payload.get("state", payload) is None


def check_loads(model: str, number: int, payload: Mapping[str, Any], slot: str) -> Loaded:
    """Refuse for adoption what the engine could not load in a slot, and would stop at; return the rest as loaded.

    Raises
    ------
    SnapshotError
        It has no state or cannot be decoded, or is of another kind than what the slot is for.
    """
    name = f"model {model}/{number}"
    if is_empty(payload):
        size = payload.get("size")
        measured = f"with {size:,} bytes it is too large to be" if isinstance(size, int) else "it is none"
        text = f"{name} is not for use: {payload.get('fault') or measured}"
        raise SnapshotError(text)
    try:
        found = load(model, number, payload)
    except BadSnapshotError as error:
        text = f"{name} cannot be loaded in the slot {slot}: {error}"
        raise SnapshotError(text) from error
    wanted = KINDS.get(slot, Loaded)
    if not isinstance(found, wanted):
        text = f"{name} cannot do what the slot {slot} does: it is a {type(found).__name__}, no {wanted.__name__}"
        raise SnapshotError(text)
    return found


def microseconds(found: Loaded) -> float:
    """Return what a score of this model takes here, at the best of several times; 0 where a slot has no scores."""
    if not isinstance(found, Classifier):
        return 0.0
    # columns move through what features are: counts, logarithms, shares, so that trees are gone through on many ways
    rows = [[(row * column % 17) / 4 for column in range(1, len(found.payload["names"]) + 1)] for row in range(ROWS)]
    best = math.inf
    for _ in range(TIMES):
        begin = perf_counter()
        for row in rows:
            found.score(row)
        best = min(best, perf_counter() - begin)
    return best / ROWS * 1e6


def adoption_of(envelope: Mapping[str, Any], standing: Standing) -> dict[str, Any]:
    """Return the control message that puts a version in force, in place of what is in force now."""
    return {
        "v": 1, "k": "adopt", "slot": envelope["slot"], "model": envelope["model"], "version": envelope["version"],
        "replaces": standing.version_in(envelope["slot"]), "sha256": envelope["sha256"], "at": envelope["at"],
        "trust": envelope["trust"],
    }  # fmt: skip


@cache
def libraries(learners: int | None = None) -> dict[str, str]:
    """Return what computed a model, by version; ``learners`` began to learn it, these where that is not told."""
    found = {LEARNERS: str(LEARN_VERSION if learners is None else learners), "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def learned_by(envelope: Mapping[str, Any]) -> int:
    """Return the version of the learners that began a model; 1 where that is not told, 0 where it cannot be read."""
    library = envelope.get("library")
    told = str(library.get(LEARNERS, "1")) if isinstance(library, dict) else "1"
    return int(told) if told.isdecimal() else 0


def _mac(key: bytes, envelope: Mapping[str, Any]) -> str:
    signed = {name: value for name, value in envelope.items() if name not in UNSIGNED}
    return hmac.digest(key, encode(signed), "sha256").hex()


def _check_size(name: str, payload: bytes) -> None:
    if len(payload) > MOST_BYTES:
        text = f"{name} has {len(payload):,} bytes, {MOST_BYTES:,} are the most"
        raise SnapshotError(text)


def _check_numbers(name: str, payload: Mapping[str, Any]) -> None:
    for path, field, number in _numbers(payload, "", ""):
        if not math.isfinite(number):
            text = f"{name}: {path} is no number"
            raise SnapshotError(text)
        if field in WEIGHTS and abs(number) > MOST_WEIGHT:
            text = f"{name}: {path} is {number:.3g}, its weights have exploded"
            raise SnapshotError(text)


def _numbers(value: Any, path: str, field: str) -> Iterator[tuple[str, str, float]]:
    """Yield path, field and value of every number below a value; the field is the nearest name above it."""
    if isinstance(value, float | int):
        yield path or "it", field, value
    elif isinstance(value, dict):
        for name, content in value.items():
            yield from _numbers(content, f"{path}.{name}" if path else str(name), field if field in WEIGHTS else name)
    elif isinstance(value, list | tuple):
        for index, content in enumerate(value):
            yield from _numbers(content, f"{path}[{index}]", field)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

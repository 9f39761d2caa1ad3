"""What an operator looks up and mends: one customer, dead letters, the read model."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterable
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import orjson
from rich.markup import escape

from journey.documents import UNAIDED, Sight, document
from journey.errors import BadSnapshotError, MissingModelError
from journey.ids import derive, route
from journey.models.base import rounded
from journey.models.bayes import Reasons
from journey.scoring import Classifier, load
from journey.state import Customer, partition_key, read_customer, read_partition, stamp
from journey.triggers import rfc3339
from journey.wording import reasons, sentence
from streams import topics
from streams.appends import Log
from streams.arrivals import parse_time
from streams.at_hand import AtHand
from streams.errors import NotFoundError, ShellError
from streams.logs import consumer, partitions_of, read_all, read_partitions, spans_of
from streams.models_log import ModelsLog
from streams.read_model import AWAY, RedisReader
from streams.records import parse_control, parse_events
from streams.replay import live_cuts
from streams.settings import Settings

MOST_AT_ONCE: Final = 500
EXPLAINED: Final = {"churn": "churn/1", "intent": "intent/1"}  # slot: schema of the rows that are kept
NOT_KEPT: Final = {
    "churn": "what it was asked with is not kept any more",
    "intent": "its visit is over, and what it was asked with went with it",
}


class ReadModelError(ShellError):
    """Redis does not answer.

    Operator: nothing is lost. Start Redis, or read the state itself with `--from table`.
    """


class ResendError(ShellError):
    """A file of repaired dead letters cannot be read.

    Operator: make it with `journey dead-letters list --json`, change the `value` of the letters to send, keep the rest.
    """


def keys_of(name: str) -> list[str]:
    """Return the customer keys an id may mean: itself, or that of a user, then of an anonymous visitor."""
    return [name] if name[:2] in ("u:", "a:") else [f"u:{name}", f"a:{name}"]


async def shown_customer(settings: Settings, name: str) -> dict[str, Any]:
    """Return a customer's document from the read model.

    Raises
    ------
    NotFoundError, ReadModelError
    """
    if not settings.redis_url:
        msg = "JOURNEY_REDIS_URL is empty: use --from table"
        raise ReadModelError(msg)
    reader = RedisReader(settings.redis_url, settings.topic_prefix)
    try:
        for key in keys_of(name):
            found = await reader.customer(key)
            if found is not None:
                return found
    except AWAY as error:
        msg = f"Redis does not answer ({error}): start it, or use --from table"
        raise ReadModelError(msg) from error
    finally:
        await reader.close()
    msg = f"no customer {name} in the read model; `--from table` reads the state itself"
    raise NotFoundError(msg)


class Stored(NamedTuple):
    """A customer as the changelog has one."""

    record: dict[str, Any]
    document: dict[str, Any]
    explanations: dict[str, Any]  # of scores, by slot


async def stored_customer(settings: Settings, name: str) -> Stored:
    """Return a customer's record as the changelog has it, its document, and why the scores are what they are.

    Raises
    ------
    NotFoundError
    """
    async with consumer(settings) as client:
        tps = await partitions_of(client, topics.changelog(settings))
        for key in keys_of(name):
            (tp,) = [one for one in tps if one.partition == route(key, len(tps))]
            newest: bytes | None = None
            partition: bytes | None = None
            async for _, records in read_partitions(client, await spans_of(client, [tp])):
                for record in records:
                    if record.key == key.encode() and (newest is None or stamp(record.value) >= stamp(newest)):
                        newest = record.value
                    elif record.key == partition_key(tp.partition):
                        partition = record.value
            if newest is not None:
                sight = await sight_of(AtHand(settings), tp.partition, partition)
                customer = read_customer(newest)
                told = {} if partition is None else await explanations(ModelsLog(settings), customer, sight)
                return Stored(orjson.loads(newest), document(customer, tp.partition, sight)[1], told)
    msg = f"no customer {name}: nothing with this user id or anonymous id was ever journalled here"
    raise NotFoundError(msg)


async def sight_of(at_hand: AtHand, number: int, raw: bytes | None) -> Sight:
    """Return what is in force in a journal partition, by its record."""
    if raw is None:
        return UNAIDED
    partition = read_partition(raw, number)
    await at_hand.for_partition(partition)
    models = {slot: at_hand.library.get(*named) for slot, named in partition["models"].items()}
    config = partition["config"]
    return Sight(models, None if config is None else at_hand.library.config(config))


async def explanations(models: ModelsLog, customer: Customer, sight: Sight) -> dict[str, Any]:
    """Return, for each score of a model, what weighed most in it; the model is the one that gave the score."""
    found: dict[str, Any] = {}
    for slot, (value, version, *_) in sorted(customer.get("scores", {}).items()):
        asked = _asked(customer, slot)
        if value is None or slot not in EXPLAINED:
            continue
        if asked is None:
            found[slot] = {"model": None, "text": NOT_KEPT[slot]}
            continue
        row, said = asked
        force = sight.models.get(slot)
        # a version number alone does not tell whether it is of the champion or of what was promoted since
        for name in dict.fromkeys((slot if force is None else force.model, slot)):
            model = await _loaded(models, name, version)
            if model is not None and model.ask(row)[0] == said:
                found[slot] = _explained(model, EXPLAINED[slot], row)
                break
        else:
            found[slot] = {"model": None, "text": f"version {version}, which gave it, is not among the models any more"}
        if slot == "intent" and (counts := sight.models.get("bayes")) is not None:
            alike = Reasons.restore(counts.payload["state"]).explain(row)
            found[slot]["alike"] = None if alike is None else alike.words
    return found


def _asked(customer: Customer, slot: str) -> tuple[list[float], float] | None:
    """Return the row that the newest score was given for, and what its model said; None when it is not kept."""
    at = customer["scores"][slot][3]
    if slot == "churn":
        rows = [(scored_at, row, p) for scored_at, row, p, *_ in customer.get("waiting", ())]
    else:
        rows = [(scored_at, row, p) for scored_at, _, row, p, *_ in customer.get("visit", ())]
    if not rows or rows[-1][0] != at or rows[-1][2] is None:
        return None
    return rows[-1][1], rows[-1][2]


async def _loaded(models: ModelsLog, name: str, version: int) -> Classifier | None:
    """Return a version of a model that scores; None when there is none of this name."""
    try:
        loaded = load(name, version, await models.get(name, version))
    except (MissingModelError, BadSnapshotError):
        return None
    return loaded if isinstance(loaded, Classifier) else None


def _explained(model: Classifier, schema: str, row: list[float]) -> dict[str, Any]:
    found = reasons(schema, row, model.contributions(row))
    ways = {way: [one._asdict() | {"part": rounded(one.part)} for one in of] for way, of in found._asdict().items()}
    return {"model": f"{model.model}/{model.version}", "text": sentence(found), **ways}


async def follow(
    settings: Settings, names: Iterable[str], *, from_beginning: bool, ready: asyncio.Event | None = None
) -> AsyncIterator[Any]:
    """Yield the records of topics as they arrive, for ever."""
    async with consumer(settings) as client:
        tps = [tp for name in names for tp in await partitions_of(client, settings.topic(name))]
        client.assign(tps)
        await (client.seek_to_beginning(*tps) if from_beginning else client.seek_to_end(*tps))
        for tp in tps:
            await client.position(tp)  # settles where it begins, before anybody publishes
        if ready is not None:
            ready.set()
        while True:
            fetched = await client.getmany(*tps, timeout_ms=500)
            for records in fetched.values():
                for record in records:
                    yield record


async def dead_letters(settings: Settings, reason: str | None = None) -> list[dict[str, Any]]:
    """Return the dead letters, one for each source (a crash repeats some), oldest first."""
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    async for record in read_all(settings, settings.topic(topics.DEAD_LETTERS)):
        letter = orjson.loads(record.value)
        if reason is None or letter["reason"] == reason:
            found.setdefault(orjson.dumps(letter["source"]).decode(), (record.timestamp, letter))
    return [letter for _, letter in sorted(found.values(), key=lambda pair: (pair[0], str(pair[1]["source"])))]


def readable(letter: dict[str, Any]) -> dict[str, Any]:
    """Return a letter with its value as JSON or text beside the bytes, for a person to repair."""
    raw = b64decode(letter["value_b64"])
    try:
        value: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = None
    return {**letter, "value": value}


async def resend(
    settings: Settings, letters: list[dict[str, Any]], *, everything: bool = False
) -> tuple[int, list[tuple[dict[str, Any], str]]]:
    """Send dead letters again to where they were meant for; return how many, and which were left with the reason why.

    Sent are those that ingest would accept now: as they are, or repaired
    (with a ``value``). The message id stays, so that what did arrive counts
    once; a message without one gets an id made of its source. Letters of the
    engine (``poison``) are journal entries and are never sent.
    """
    left: list[tuple[dict[str, Any], str]] = []
    sent = 0
    async with consumer(settings) as client:
        counts: dict[str, int] = {}
        log = await Log(settings.kafka_url, settings.batch_bytes).start()
        try:
            for letter in letters:
                source = letter["source"]
                if letter["stage"] != "ingest":
                    left.append((letter, f"a letter of stage {letter['stage']} is not a raw event"))
                    continue
                name = settings.topic(letter["to"]) if "to" in letter else source["topic"]
                original = b64decode(letter["value_b64"])
                value = orjson.dumps(letter["value"]) if letter.get("value") is not None else original
                if letter.get("value") is not None and _same_json(original, letter["value"]):
                    value = original
                if letter["value_bytes"] > len(original) and value == original:
                    left.append((letter, "its bytes were too many to keep"))
                    continue
                key = None if letter["key_b64"] is None else b64decode(letter["key_b64"])
                headers = [
                    ("message-id", derive(source["topic"], str(source["partition"]), str(source["offset"])).encode())
                ]
                why = None if everything else _refusal(settings, name, key, value, headers, letter)
                if why is not None:
                    left.append((letter, why))
                    continue
                if name not in counts:
                    counts[name] = len(await partitions_of(client, name))
                number = route((key or b"").decode("utf-8", "replace"), counts[name])
                await log.append(name, number, [(key, value)], headers)
                sent += 1
        finally:
            await log.stop()
    return sent, left


def _same_json(original: bytes, value: Any) -> bool:
    try:
        return bool(orjson.loads(original) == value)
    except orjson.JSONDecodeError:
        return False


def _refusal(
    settings: Settings, name: str, key: bytes | None, value: bytes, headers: Any, letter: dict[str, Any]
) -> str | None:
    """Return why ingest would refuse a record now, None when it would not."""
    short = name[len(settings.topic_prefix) :]
    at = parse_time("rejected_at", letter["rejected_at"])
    record = SimpleNamespace(topic=name, partition=0, offset=0, timestamp=at, key=key, value=value, headers=headers)
    if short == topics.CONTROL:
        parsed = parse_control([record], settings.partitions)
    else:
        parsed = parse_events(short.removeprefix("events."), [record], settings.partitions)
    refused = parsed[0].dead_letter
    if refused is None:
        return None
    told = orjson.loads(refused[1])
    return f"{told['reason']}: {told['field'] or ''} {told['detail']}"


def read_repaired(path: str) -> list[dict[str, Any]]:
    """Return the letters of a file made by ``dead-letters list --json`` and edited.

    Raises
    ------
    ResendError
        Not such a file.
    """
    letters = []
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    letter = orjson.loads(line)
                    if not {"source", "stage", "value_b64", "key_b64", "value_bytes"} <= letter.keys():
                        msg = f"{path}:{number}: not a dead letter"
                        raise ResendError(msg)
                    letters.append(letter)
    except (OSError, ValueError, AttributeError) as error:
        msg = f"{path}: {error}"
        raise ResendError(msg) from error
    return letters


async def rebuild_cache(settings: Settings, on_progress: Callable[[int, int], None] | None = None) -> int:
    """Fill the read model from the live state; return how many customers it shows.

    Raises
    ------
    ReadModelError
    """
    if not settings.redis_url:
        msg = "JOURNEY_REDIS_URL is empty: there is no read model to rebuild"
        raise ReadModelError(msg)
    cuts = await live_cuts(settings)
    total = sum(key != partition_key(number) for number, cut in cuts.items() for key in cut.records)
    reader = RedisReader(settings.redis_url, settings.topic_prefix)
    done = 0
    try:
        await reader.clear()
        at_hand = AtHand(settings)
        for number, cut in cuts.items():
            sight = await sight_of(at_hand, number, cut.records.get(partition_key(number)))
            rows = [(key, value) for key, value in cut.records.items() if not key.startswith(b"\0")]
            for start in range(0, len(rows), MOST_AT_ONCE):
                part = rows[start : start + MOST_AT_ONCE]
                await reader.show(
                    [(key.decode(), *document(read_customer(value), number, sight)) for key, value in part]
                )
                done += len(part)
                if on_progress is not None:
                    on_progress(done, total)
            if cut.records:
                await reader.reached(number, cut.at)
    except AWAY as error:
        msg = f"Redis does not answer ({error}): start it and run this again"
        raise ReadModelError(msg) from error
    finally:
        await reader.close()
    return done


def trigger_line(event: dict[str, Any]) -> str:
    """Return a trigger in one line, as Rich markup."""
    data = event["data"]
    if event["type"] in ("journey.stage_changed.v1", "journey.segment_changed.v1"):
        what = f"[cyan]{data['from'] or 'new'} -> {data['to']}[/]"
    else:
        what = f"[yellow]{escape(data['journey'])}: {escape(data['action'])}[/]"
    return f"{event['time'][:19]} {escape(event['subject']):<14} {what}  [dim]{escape(data['reason']['text'])}[/]"


def alarm_line(event: dict[str, Any]) -> str:
    """Return an alarm in one line, as Rich markup."""
    data = event["data"]
    when, about = event["time"][:19], escape(event["subject"].removeprefix("model:"))
    if event["type"] != "journey.model_drifted.v1":
        return f"{when} {about:<14} {escape(event['type'])} {escape(_short(data))}"
    way = "worse" if data["after"] > data["before"] else "better"
    seconded = ", a second test agrees" if data["seconded"] is not None else ""
    return (
        f"{when} {about:<14} [yellow]drift[/]: log-loss {data['before']:.3f} -> {data['after']:.3f}, {way} since "
        f"{rfc3339(data['since'])[:10]} [dim](of {data['losses']:,} labels{seconded})[/]"
    )


def differing_parts(live: Any, again: Any) -> list[str]:
    """Return in words which members of two records differ."""
    if live is None or again is None:
        return ["it is only in the " + ("replay" if live is None else "live state")]
    return [
        f"{name}: live {_short(live.get(name))}, replayed {_short(again.get(name))}"
        for name in sorted(live.keys() | again.keys())
        if live.get(name) != again.get(name)
    ]


def _short(value: Any) -> str:
    return f"{orjson.dumps(value).decode():.100}"

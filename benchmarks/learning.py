"""What learning costs: scores in the fold, a sample in its learner, a new version where it is adopted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks import engine_run
from benchmarks.engine_run import EngineRun
from benchmarks.quality.stream import Run, run
from journey.engine import Shard, fold
from journey.entries import read_page
from journey.models.baskets import Baskets
from journey.models.clusters import SequentialKMeans
from journey.models.lifetime import Buyers
from journey.models.logistic import Logistic
from journey.samples import FAMILIES, SCHEMA_OF, SCHEMAS, Sample
from journey.scoring import Library, load
from journey.training import Publication, new_learner
from streams import topics
from streams.appends import Log
from streams.collector import calm
from streams.logs import end_offsets, read_all
from streams.raw import RawRecord
from streams.settings import Settings
from streams.shop import generate
from streams.snapshots import RECORD_HEADERS, keys_of, record_key, sign
from streams.snapshots import read as read_snapshot

CUSTOMERS: Final = 300  # of the shop that models are trained on beforehand,
DAYS: Final = 180  # and for how long
ROLES: Final = ("ingest", "engine", "learn")
REPEATS: Final = 3
RUNS: Final = 3  # of the engine with all models on
BATCH: Final = 900_000


@dataclass
class Learning:
    """What was measured; microseconds are CPU time."""

    run: EngineRun  # with all models in force, and a worker that learns beside the others: the median of three
    rates: list[float]  # events a second of all three, ascending
    samples: int
    fold_without: float  # us an event, no model in force
    fold_with: float
    shop_without: float  # the same over a half year of a shop, where timers score as well
    shop_with: float
    champions: dict[str, float]  # us a sample, of the model alone
    families: dict[str, float]  # us a sample, with challengers, figures and publications
    adopt_ms: dict[str, float]  # until a version is verified, decoded and in force


def trained() -> Run:
    """Return a shop's half year, learned: where its newest champions come from."""
    return run(generate(seed=1, customers=CUSTOMERS, days=DAYS))


def champions(shop: Run) -> list[Publication]:
    """Return the newest champion of each slot."""
    newest = {one.model: one for one in shop.published if one.payload["role"] == "champion"}
    return [one for one in newest.values() if one.payload["state"] is not None]


async def put_in_force(settings: Settings, models: Sequence[Publication]) -> None:
    """Publish models, and adopt them before anything else is journalled."""
    keys, log = keys_of(settings), await Log(settings.kafka_url, BATCH).start()
    for one in models:
        family = next(name for name, schema in SCHEMA_OF.items() if schema == one.payload["schema"])
        value = sign(
            keys, model=one.model, number=one.version, parent=None, schema=SCHEMA_OF[family], trained_through={},
            trained=one.trained, payload=one.payload,
        )  # fmt: skip
        digest = read_snapshot(value, keys).sha256
        name = record_key(one.model, one.version)
        await log.append(settings.topic(topics.MODELS), 0, [(name, value)], RECORD_HEADERS)
        message = {
            "k": "adopt", "slot": one.payload["slot"], "model": one.model, "version": one.version, "replaces": None,
            "sha256": digest, "at": 0,
        }  # fmt: skip
        await log.append(settings.topic(topics.CONTROL), 0, [(None, orjson.dumps(message))])
    await log.stop()


async def measure(settings: Settings, records: Sequence[RawRecord], directory: Path, broker: int | None) -> Learning:
    """Measure the engine with all models on, then the parts."""
    calm()  # as workers do: with the records of all runs at hand, the search for cycles would be most of the cost
    shop = trained()
    models = champions(shop)

    runs = []
    for number in range(RUNS):
        deployed = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}{number}."})
        prepare = partial(put_in_force, deployed, models)
        made = await engine_run.run(deployed, records, directory, broker=broker, roles=ROLES, prepare=prepare)
        runs.append((made, deployed))
    runs.sort(key=lambda pair: pair[0].events / pair[0].seconds)
    rates = [made.events / made.seconds for made, _ in runs]
    found, settings = runs[RUNS // 2]
    del runs
    ends = await end_offsets(settings, settings.topic(topics.SAMPLES))
    library = Library()
    stalls = {}
    keys = keys_of(settings)
    for one in models:
        value = sign(
            keys, model=one.model, number=one.version, parent=None, schema=one.payload["schema"], trained_through={},
            trained=one.trained, payload=one.payload,
        )  # fmt: skip
        begin = time.perf_counter()
        snapshot = read_snapshot(value, keys)
        load(one.model, one.version, orjson.loads(snapshot.payload))
        stalls[one.model] = (time.perf_counter() - begin) * 1000
    async for record in read_all(settings, settings.topic(topics.MODELS)):  # these, and what was learned meanwhile
        snapshot = read_snapshot(record.value, keys)
        payload = orjson.loads(snapshot.payload)
        if payload["role"] == "champion":
            library.add(snapshot.model, snapshot.version, snapshot.sha256, payload)
    own = [page for page in found.pages if page[0] == 0]
    bare = run(generate(seed=1, customers=CUSTOMERS, days=DAYS), families=())
    return Learning(
        run=found, rates=rates, samples=sum(ends.values()), fold_without=_fold_us(own, library, adopts=False),
        fold_with=_fold_us(own, library, adopts=True), shop_without=_shop_us(bare), shop_with=_shop_us(shop),
        champions=_champions([one for _, one in shop.samples]),
        families=_families([one for _, one in shop.samples]), adopt_ms=stalls,
    )  # fmt: skip


def _fold_us(pages: Sequence[tuple[int, int, bytes]], library: Library, *, adopts: bool) -> float:
    """Return what a journal partition's events cost the fold, with its adoptions or without them."""
    read = [(offset, read_page(value)) for _, offset, value in pages]
    told = [(offset, [one for one in page if adopts or one["k"] != "adopt"]) for offset, page in read]
    events = sum(one["k"] == "event" for _, page in told for one in page)
    costs = []
    for _ in range(REPEATS):
        shard = Shard(0, lambda _key: None, (), library)
        begin = time.thread_time()
        for offset, page in told:
            fold(shard, offset, page)
        costs.append(time.thread_time() - begin)
    return min(costs) / events * 1e6


def _shop_us(shop: Run) -> float:
    return shop.seconds["fold"] / shop.events * 1e6


def _us(learn: Callable[[Sample], Any], samples: Sequence[Sample]) -> float:
    begin = time.thread_time()
    for sample in samples:
        learn(sample)
    return (time.thread_time() - begin) / max(1, len(samples)) * 1e6


def _champions(samples: Sequence[Sample]) -> dict[str, float]:
    """Return what each champion costs for a sample: the model alone, which is what it takes to learn."""
    churn, intent = Logistic(SCHEMAS["churn/1"]), Logistic(SCHEMAS["intent/1"])
    segments, baskets, buyers = SequentialKMeans(), Baskets(), Buyers()

    def of(family: str, kind: str) -> list[Sample]:
        return [one for one in samples if one["model"] == family and one["kind"] == kind]

    return {
        "churn": _us(lambda one: churn.learn(one["x"], bool(one["y"])), of("churn", "label")),
        "intent": _us(lambda one: intent.learn(one["x"], bool(one["y"])), of("intent", "label")),
        "segments": _us(lambda one: segments.learn(one["x"], one["at"]), of("segments", "observe")),
        "recs (a basket)": _us(
            lambda one: baskets.learn(one["items"], one["at"], dict(one["profile"])), of("recs", "observe")
        ),
        "value": _us(lambda one: buyers.observe(one["x"], one["at"]), of("value", "observe")),
    }


def _families(samples: Sequence[Sample]) -> dict[str, float]:
    """Return what a whole learner costs for a sample; batch fits are not run."""
    told = {}
    for family in FAMILIES:
        learner = new_learner(family)
        told[family] = _us(learner.learn, [one for one in samples if one["model"] == family])
    return told


def summary(found: Learning) -> dict[str, Any]:
    """Return it for machines."""
    used = found.run
    told = {
        "models_on_events_per_second": round(used.events / used.seconds),
        "models_on_events_per_second_of_all": [round(rate) for rate in found.rates],
        "models_on_cpu_us_per_event": used.us("ingest") + used.us("engine"), "models_on_engine_us": used.us("engine"),
        "learn_us_per_event": used.us("learn"), "samples_per_event": found.samples / used.events,
        "fold_us": found.fold_without, "fold_with_models_us": found.fold_with,
        "shop_fold_us": found.shop_without, "shop_fold_with_models_us": found.shop_with,
        "champion_us_per_sample": {name: round(us, 1) for name, us in found.champions.items()},
        "learner_us_per_sample": {name: round(us, 1) for name, us in found.families.items()},
        "adopt_ms": {name: round(ms, 2) for name, ms in found.adopt_ms.items()},
    }  # fmt: skip
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in told.items()}


def show(found: Learning) -> dict[str, Any]:
    """Print it, and return it for machines."""
    told = summary(found)
    print("\nWith all models on (a third worker learns), CPU us")
    least, most = found.rates[0], found.rates[-1]
    print(f"  events/s, ingest + engine                 {told['models_on_events_per_second']:>10,}")
    print(f"    the median of {len(found.rates)} runs, {least:,.0f} to {most:,.0f}")
    print(f"  ingest + engine, an event                 {told['models_on_cpu_us_per_event']:>10.1f}")
    print(f"  the learning worker meanwhile, an event   {told['learn_us_per_event']:>10.1f}")
    print(f"  fold, no model in force, an event         {told['fold_us']:>10.1f}")
    print(f"  fold, all models in force, an event       {told['fold_with_models_us']:>10.1f}")
    print(f"  fold of a shop's half year, no model        {told['shop_fold_us']:>8.1f}")
    print(f"  fold of a shop's half year, all models      {told['shop_fold_with_models_us']:>8.1f}")
    for name, us in told["champion_us_per_sample"].items():
        print(f"  learn, champion of {name:23}{us:>10.1f}")
    for name, us in told["learner_us_per_sample"].items():
        print(f"  learner with challengers, {name:16}{us:>10.1f}")
    slowest = max(told["adopt_ms"], key=lambda name: float(told["adopt_ms"][name]))
    median = statistics.median(told["adopt_ms"].values())
    print(f"  verify and decode a version, ms: median {median:.2f}, most {told['adopt_ms'][slowest]:.2f} ({slowest})")
    return told

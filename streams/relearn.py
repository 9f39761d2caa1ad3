"""Whether the models are what the samples make of them: the learners' fold again, held against what was published."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiokafka import TopicPartition

from journey.samples import FAMILIES
from streams import topics
from streams.collector import calm
from streams.errors import SnapshotError
from streams.logs import consumer, read_all, read_partitions, spans_of
from streams.settings import Settings
from streams.snapshots import digest, keys_of, payload_of, read, version_of

FITS: Final = ("clv",)  # what is fitted by a batch library, and decided once
FITTED: Final = ".boosted"


@dataclass
class Relearned:
    """What came of it."""

    models: int = 0  # versions that were compared
    different: list[str] = field(default_factory=list)


# what takes about as long, learned side by side
SHARES: Final = (("churn", "segments", "value"), ("intent", "recs"))


async def relearn(settings: Settings) -> Relearned:
    """Learn all samples again from the first one, and compare every version that comes of them with the published one.

    Batch fits are taken as they were published. Versions of samples that
    retention took cannot be compared; neither can those of other epochs. Runs
    in two processes of its own.
    """
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(len(SHARES), multiprocessing.get_context("spawn")) as pool:
        found = await asyncio.gather(*(loop.run_in_executor(pool, _in_process, settings, share) for share in SHARES))
    return Relearned(sum(one.models for one in found), sorted(name for one in found for name in one.different))


def _in_process(settings: Settings, families: tuple[str, ...]) -> Relearned:
    calm()
    return asyncio.run(learned_again(settings, families))


async def learned_again(settings: Settings, families: tuple[str, ...] = FAMILIES) -> Relearned:
    """Learn the samples of some families again, in this process."""
    from journey.training import Fit, Publication, new_learner  # loads River

    published = await _published(settings)
    topic = settings.topic(topics.SAMPLES)
    found = Relearned()
    learners = {family: new_learner(family) for family in families}

    def compare(one: Publication | Fit, payload: Mapping[str, Any] | None) -> None:
        number = version_of(settings, one.version)
        known = published.get((one.model, number))
        if known is None:
            return  # it is about to be published
        found.models += 1
        if payload is not None and known[0] != {digest(payload)}:
            found.different.append(f"{one.model}/{number}")

    def follow(learner: Any, outcomes: list[Any]) -> bool:
        for one in outcomes:
            if isinstance(one, Publication):
                compare(one, one.payload)
            elif isinstance(one, Fit):
                known = published.get((one.model, version_of(settings, one.version)))
                if known is None:
                    return False  # it is being decided; what follows from it is not known yet
                compare(one, None)
                if not follow(learner, learner.fitted(one, known[1])):
                    return False
        return True

    async with consumer(settings) as client:
        spans = await spans_of(client, [TopicPartition(topic, FAMILIES.index(family)) for family in families])
        whole = {tp: span for tp, span in spans.items() if span[0] == 0}
        stopped: set[TopicPartition] = set()
        async for tp, records in read_partitions(client, whole):
            learner = learners[FAMILIES[tp.partition]]
            for record in records:
                if tp not in stopped and not follow(learner, learner.learn(orjson.loads(record.value))):
                    stopped.add(tp)
    return found


async def _published(settings: Settings) -> dict[tuple[str, int], tuple[set[str], dict[str, Any]]]:
    """Return the digests of every version that is signed with our key, and what is in fits: of several the first."""
    found: dict[tuple[str, int], tuple[set[str], dict[str, Any]]] = {}
    keys = keys_of(settings)
    async for record in read_all(settings, settings.topic(topics.MODELS)):
        if record.value is None:
            continue
        try:
            snapshot = read(record.value, keys)
            is_fit = snapshot.model in FITS or snapshot.model.endswith(FITTED)
            content = payload_of(snapshot) if is_fit else {}
            digests, _ = found.setdefault((snapshot.model, snapshot.version), (set(), content))
            digests.add(snapshot.sha256)
        except SnapshotError:
            continue  # an adoption of it would have stopped the fold
    return found

"""Whether the models are what the samples make of them: the learners' fold again, held against what was published."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from aiokafka import TopicPartition

from journey.samples import FAMILIES, LEARN_VERSION, SCHEMA_OF
from streams import topics
from streams.collector import calm
from streams.errors import SnapshotError
from streams.logs import consumer, end_offsets, read_all, read_partitions, spans_of
from streams.settings import Settings
from streams.snapshots import digest, is_of_epoch, keys_of, learned_by, payload_of, read, version_of

FITS: Final = ("clv",)  # what is fitted by a batch library, and decided once
FITTED: Final = ".boosted"
SHARES: Final = (("churn", "segments", "value"), ("intent", "recs"))  # what takes about as long, side by side
FEW: Final = 3_000  # samples that are learned before a second process has loaded River


@dataclass
class Relearned:
    """What came of it."""

    models: int = 0  # versions that were compared
    not_compared: int = 0  # since learners of another version of this program made some of their family
    different: list[str] = field(default_factory=list)


Published = dict[tuple[str, int], "Version"]


class Version(NamedTuple):
    """What was published under a name: by which learners, all digests of it, the content of the first, of fits."""

    family: str
    learners: int
    digests: set[str]
    content: dict[str, Any]


async def relearn(settings: Settings) -> Relearned:
    """Learn all samples again from the first one, and compare every version that comes of them with the published one.

    Batch fits are taken as they were published. Versions of samples that
    retention took cannot be compared; neither can those of other epochs, nor
    those of a family that learners of another version have begun: what came
    after an upgrade rests on what came before it. A family of which nothing
    was published has nothing to compare. Runs in one or two processes of its
    own.
    """
    published = await _published(settings)
    families, not_compared = comparable(published)
    if not families:
        return Relearned(not_compared=not_compared)
    topic = settings.topic(topics.SAMPLES)
    ends = await end_offsets(settings, topic)
    few = sum(ends.values()) < FEW
    wanted = [tuple(one for one in share if one in families) for share in ((FAMILIES,) if few else SHARES)]
    shares = [share for share in wanted if share]
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(len(shares), multiprocessing.get_context("spawn")) as pool:
        running = [loop.run_in_executor(pool, _in_process, settings, share, published) for share in shares]
        found = await asyncio.gather(*running)
    different = sorted(name for one in found for name in one.different)
    return Relearned(sum(one.models for one in found), not_compared, different)


def comparable(published: Published) -> tuple[set[str], int]:
    """Return the families whose versions our learners made from the first on, and how many versions others have."""
    others = {one.family for one in published.values() if one.learners != LEARN_VERSION}
    families = {one.family for one in published.values()} - others
    return families, sum(one.family in others for one in published.values())


def _in_process(settings: Settings, families: tuple[str, ...], published: Published) -> Relearned:
    calm()
    return asyncio.run(learned_again(settings, families, published))


async def learned_again(settings: Settings, families: tuple[str, ...], published: Published) -> Relearned:
    """Learn the samples of some families again, in this process."""
    from journey.training import Fit, Publication, new_learner  # loads River

    topic = settings.topic(topics.SAMPLES)
    found = Relearned()
    learners = {family: new_learner(family) for family in families}

    def compare(one: Publication | Fit, payload: Mapping[str, Any] | None) -> None:
        number = version_of(settings, one.version)
        known = published.get((one.model, number))
        if known is None:
            return  # it is about to be published
        found.models += 1
        if payload is not None and known.digests != {digest(payload)}:
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
                if not follow(learner, learner.fitted(one, known.content)):
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


async def _published(settings: Settings) -> Published:
    """Return every version of this epoch that is signed with our key."""
    found: Published = {}
    keys, families = keys_of(settings), {schema: family for family, schema in SCHEMA_OF.items()}
    async for record in read_all(settings, settings.topic(topics.MODELS)):
        if record.value is None:
            continue
        try:
            snapshot = read(record.value, keys)
            family = families.get(str(snapshot.envelope["schema"]))
            if family is None or not is_of_epoch(settings, snapshot.version):
                continue  # of a schema that nothing is learned by any more, or of another journal
            is_fit = snapshot.model in FITS or snapshot.model.endswith(FITTED)
            content = payload_of(snapshot) if is_fit else {}
            version = Version(family, learned_by(snapshot.envelope), set(), content)
            one = found.setdefault((snapshot.model, snapshot.version), version)
            one.digests.add(snapshot.sha256)
        except SnapshotError:
            continue  # an adoption of it would have stopped the fold
    return found

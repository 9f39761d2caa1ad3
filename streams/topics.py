"""The catalogue of topics: partitions, retention, settings; created and checked before anything starts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from journey.events import CLASSES, DAY, HOUR
from streams.errors import BrokerUnavailableError, TopicConflictError
from streams.settings import CHECKPOINTS, JOURNAL, SAMPLES, Settings

RAW: Final = tuple(f"events.{cls}" for cls in CLASSES)
CONTROL: Final = "journey.control"
CONFIG: Final = "journey.config"
TRIGGERS: Final = "journey.triggers"
DEAD_LETTERS: Final = "journey.dead_letters"
ALARMS: Final = "journey.alarms"
MODELS: Final = "journey.models"
TABLE: Final = "customers"
FAMILIES: Final = 8  # partitions of samples and of checkpoints: one for each model family, some to spare
SAMPLES_DAYS: Final = 400
FOR_EVER: Final = "-1"
SETTLE_SECONDS: Final = 30.0  # until a created topic is known to the broker that answers
SETTLE_LOOKS: Final = 60


@dataclass(frozen=True)
class Topic:
    """A topic as it has to be. ``partitions`` None: any count is fine, new ones get the journal's."""

    name: str
    partitions: int | None
    config: dict[str, str] = field(default_factory=dict)
    must: frozenset[str] = frozenset()  # settings that are refused when they differ; others are only advice


__all__ = [
    "ALARMS", "CHECKPOINTS", "CONFIG", "CONTROL", "DEAD_LETTERS", "JOURNAL", "MODELS", "RAW", "SAMPLES", "TABLE",
    "TRIGGERS", "Admin", "Finding", "Topic", "catalogue", "changelog",
]  # fmt: skip


def changelog(settings: Settings) -> str:
    """Return the name of the customer table's changelog, as Faust forms it."""
    return f"{settings.app_id('engine')}-{settings.topic(TABLE)}-changelog"


def catalogue(settings: Settings) -> list[Topic]:
    """Return every topic of this stage."""
    append_time = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}
    both = frozenset(append_time)
    durable = {"min.insync.replicas": str(min(2, settings.replication))} if settings.replication > 1 else {}

    def kept(days: int | None) -> dict[str, str]:
        return {"retention.ms": FOR_EVER if days is None else str(days * DAY), **append_time, **durable}

    ever = both | {"retention.ms"}
    compacted = {
        "cleanup.policy": "compact", "min.compaction.lag.ms": str(DAY), "message.timestamp.type": "LogAppendTime",
        **durable,
    }  # fmt: skip
    compact = frozenset(("cleanup.policy",))
    # each checkpoint has keys of its own, and deletes those of the one before: what is read when a learner begins is
    # what was not compacted yet
    rewritten = {
        "cleanup.policy": "compact", "segment.bytes": str(32 << 20), "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": str(HOUR), "message.timestamp.type": "LogAppendTime", **durable,
    }  # fmt: skip
    name = settings.topic
    return [
        *(Topic(name(raw), None, kept(30), both) for raw in RAW),
        Topic(name(CONTROL), 1, kept(None), ever),
        Topic(name(CONFIG), 1, {"cleanup.policy": "compact", **durable}, compact),
        Topic(name(JOURNAL), settings.partitions, kept(None), ever),
        Topic(name(TRIGGERS), None, kept(30), both),
        Topic(name(DEAD_LETTERS), None, kept(14), both),
        Topic(name(SAMPLES), FAMILIES, kept(SAMPLES_DAYS), both),
        Topic(name(MODELS), 1, compacted, compact),
        Topic(name(ALARMS), 1, kept(90), both),
        Topic(name(CHECKPOINTS), FAMILIES, rewritten, compact),
        Topic(changelog(settings), settings.partitions, compacted, compact),
    ]


def _settings_told(answers: Iterable[Any]) -> dict[str, str]:
    return {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}


@dataclass(frozen=True)
class Finding:
    """What is wrong with one topic, and what to do."""

    topic: str
    text: str
    refuses: bool
    is_missing: bool = False


class Admin:
    """The broker's own book-keeping; use as an async context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_url, request_timeout_ms=30_000)

    async def __aenter__(self) -> Admin:
        try:
            await self._client.start()
        except (KafkaError, OSError) as error:
            await self._client.close()
            text = f"no Kafka broker answers at {self.settings.kafka_url} ({error}): start it or set JOURNEY_KAFKA_URL"
            raise BrokerUnavailableError(text) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def partitions(self) -> dict[str, int]:
        """Return the partition count of every topic of the broker."""
        wanted = [topic.name for topic in catalogue(self.settings)]
        there = set(await self._client.list_topics()) & set(wanted)
        if not there:
            return {}
        found = await self._client.describe_topics(sorted(there))
        return {topic["topic"]: len(topic["partitions"]) for topic in found}

    async def create(self) -> list[str]:
        """Create what is missing; return the names."""
        there = await self.partitions()
        missing = [topic for topic in catalogue(self.settings) if topic.name not in there]
        if missing:
            count = self.settings.partitions
            answer = await self._client.create_topics(
                [
                    NewTopic(
                        topic.name, topic.partitions or count, self.settings.replication, topic_configs=topic.config
                    )
                    for topic in missing
                ]
            )
            for name, code, *text in answer.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    reason = f"{name}: {for_code(code).__name__} {' '.join(str(part) for part in text)}"
                    raise TopicConflictError(reason)
        created = [topic.name for topic in missing]
        await self._known(created)
        return created

    async def _known(self, names: list[str]) -> None:
        """Return when the broker tells of topics that it has created: it does not at once."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while not set(names) <= (await self.partitions()).keys():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            text = f"{self.settings.kafka_url} created topics and does not know them: look at the broker's log"
            raise BrokerUnavailableError(text) from None

    async def check(self) -> list[Finding]:
        """Return what differs from the catalogue; empty when all is well."""
        there = await self.partitions()
        findings = []
        for topic in catalogue(self.settings):
            count = there.get(topic.name)
            if count is None:
                text = "does not exist: run `journey topics create`"
                findings.append(Finding(topic.name, text, refuses=True, is_missing=True))
                continue
            if topic.partitions is not None and count != topic.partitions:
                text = (
                    f"has {count} partitions, {topic.partitions} are wanted: set JOURNEY_PARTITIONS={count}, "
                    "or use another JOURNEY_TOPIC_PREFIX; a journal's count never changes"
                )
                findings.append(Finding(topic.name, text, refuses=True))
            config = await self._config(topic.name)
            for key, value in sorted(topic.config.items()):
                found = config.get(key)
                if found is not None and found != value:
                    text = f"{key}={found}, {key}={value} is wanted: change it with kafka-configs --alter"
                    findings.append(Finding(topic.name, text, refuses=key in topic.must))
        return findings

    async def cluster(self) -> tuple[int, dict[str, str]]:
        """Return how many brokers there are, and the settings of one of them."""
        told = await self._client.describe_cluster()
        first = told["brokers"][0]["node_id"]
        answers = await self._client.describe_configs([ConfigResource(ConfigResourceType.BROKER, str(first))])
        return len(told["brokers"]), _settings_told(answers)

    async def places(self) -> dict[str, dict[int, tuple[int, int]]]:
        """Return, of each topic of ours and each partition, how many copies it has, and how many are up to date."""
        there = sorted((await self.partitions()).keys())
        found = await self._client.describe_topics(there) if there else []
        return {
            topic["topic"]: {one["partition"]: (len(one["replicas"]), len(one["isr"])) for one in topic["partitions"]}
            for topic in found
        }

    async def configs(self) -> dict[str, dict[str, str]]:
        """Return the settings of each topic of ours."""
        return {name: await self._config(name) for name in sorted((await self.partitions()).keys())}

    async def _config(self, name: str) -> dict[str, str]:
        answers = await self._client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        return _settings_told(answers)

    async def ensure(self) -> list[Finding]:
        """Create what is missing, check the rest, and refuse a conflict.

        Raises
        ------
        TopicConflictError
            A count or a setting on which the guarantees rest differs.
        """
        created = set(await self.create())
        findings = await self.check()
        for _ in range(SETTLE_LOOKS):
            # brokers learn of a new topic one after the other, and any of them may have answered
            if not any(found.is_missing and found.topic in created for found in findings):
                break
            await asyncio.sleep(SETTLE_SECONDS / SETTLE_LOOKS)
            findings = await self.check()
        conflicts = [finding for finding in findings if finding.refuses]
        if conflicts:
            raise TopicConflictError("\n".join(f"{found.topic}: {found.text}" for found in conflicts))
        return findings

    async def delete(self, names: Iterable[str]) -> None:
        """Delete topics, those of them that exist, and return when they are gone."""
        there = sorted(set(await self._client.list_topics()) & set(names))
        if not there:
            return
        await self._client.delete_topics(there)
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while set(there) & set(await self._client.list_topics()):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            text = f"the broker deleted {', '.join(there)} and still shows them: is delete.topic.enable false?"
            raise BrokerUnavailableError(text) from None

    async def members(self, group: str) -> int:
        """Return how many members a consumer group has; 0 for one that does not exist.

        Raises
        ------
        KafkaError
            Its coordinator does not know yet, as after a restart of the broker.
        """
        (answer,) = await self._client.describe_consumer_groups([group])
        error = for_code(answer.groups[0][0])
        if error is not NoError:
            raise error(group)
        return len(answer.groups[0][5])

    async def group(self, group: str) -> tuple[str, list[tuple[str, str, bytes]]]:
        """Return a consumer group's state, and its members: client id, host and assignment as it was encoded."""
        (answer,) = await self._client.describe_consumer_groups([group])
        _, _, state, _, _, members = answer.groups[0][:6]
        return state, [(client_id, host, assignment) for _, client_id, host, _, assignment in members]

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Return the committed offsets of a consumer group."""
        found: dict[Any, Any] = await self._client.list_consumer_group_offsets(group)
        return {(tp.topic, tp.partition): meta.offset for tp, meta in found.items() if meta.offset >= 0}

"""What a fold looks up, brought before it: snapshots and configurations that a partition or its entries name.

The fold cannot wait. Whoever runs it brings what is in force before it
begins, and what a page adopts before that page is folded. A worker follows
the topic of models meanwhile, so that what is adopted was mostly read before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from journey.conditions import Declared
from journey.entries import read_page
from journey.errors import BadSnapshotError, MissingModelError
from journey.scoring import Library
from journey.state import Partition
from streams import topics
from streams.errors import ShellError, SnapshotError
from streams.logs import consumer, read_all
from streams.models_log import ModelsLog
from streams.settings import Settings
from streams.shop_file import load_config
from streams.snapshots import keys_of, payload_of, read

log = logging.getLogger("journey.models")

ADOPTS: Final = b'"k":"adopt"'  # as ingest writes it
CONFIGURES: Final = b'"k":"config"'
RETRY: Final = 2.0  # s until the topic of models is followed again

Named = tuple[str, int, str]  # model, version, sha256


class AtHand:
    """Brings snapshots and configurations into a library, verified.

    Raises
    ------
    MissingModelError
        From any method that brings: a snapshot is not there, is not signed
        with our key, or is not the one that was adopted.
    """

    def __init__(self, settings: Settings, library: Library | None = None) -> None:
        self.library = Library() if library is None else library
        self._settings, self._models, self._keys = settings, ModelsLog(settings), keys_of(settings)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow what is published."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._follow())

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def for_partition(self, partition: Partition) -> None:
        """Bring what is in force in a journal partition."""
        config = partition["config"]
        adopted = [(str(model), int(number), str(digest)) for model, number, digest in partition["models"].values()]
        await self._bring(adopted, [] if config is None else [config])

    async def for_pages(self, pages: Iterable[bytes]) -> None:
        """Bring what pages adopt; most adopt nothing, and cost a search."""
        models: list[Named] = []
        configs: list[str] = []
        for page in pages:
            if ADOPTS in page or CONFIGURES in page:
                for entry in read_page(page):
                    if entry["k"] == "adopt":
                        models.append((entry["model"], entry["version"], entry["sha256"]))
                    elif entry["k"] == "config":
                        configs.append(entry["sha256"])
        if models or configs:
            await self._bring(models, configs)

    async def read_all(self) -> None:
        """Take every snapshot there is, in one reading; one that is no good is brought again when it is asked for."""
        async for record in read_all(self._settings, self._settings.topic(topics.MODELS)):
            self._take(record)

    async def _bring(self, models: list[Named], configs: list[str]) -> None:
        for model, number, digest in models:
            if not self.library.has(model, number, digest):
                payload = await self._models.get(model, number, digest)
                try:
                    self.library.add(model, number, digest, payload)
                except BadSnapshotError as error:
                    raise MissingModelError(model=model, version=number, text=str(error)) from error
        for config in configs:
            if not self.library.has_config(config):
                declared = Declared.from_config(await load_config(self._settings, config))
                self.library.add_config(config, declared)

    async def _follow(self) -> None:
        """Take snapshots as they are published; what is missed here is brought when it is adopted."""
        tp = TopicPartition(self._settings.topic(topics.MODELS), 0)
        while True:
            try:
                async with consumer(self._settings, wait_ms=500) as client:
                    client.assign([tp])
                    await client.seek_to_end(tp)
                    while True:
                        fetched = await client.getmany(tp, timeout_ms=1000)
                        for record in fetched.get(tp, ()):
                            self._take(record)
            except (KafkaError, OSError, ShellError) as error:
                log.warning("new models are not read ahead for now: %s: %s", type(error).__name__, error)
                await asyncio.sleep(RETRY)

    def _take(self, record: Any) -> None:
        """Take a snapshot, if it is one: what is wrong with another is told by whoever needs it."""
        try:
            snapshot = read(record.value, self._keys)
            if not self.library.has(snapshot.model, snapshot.version, snapshot.sha256):
                self.library.add(snapshot.model, snapshot.version, snapshot.sha256, payload_of(snapshot))
        except (SnapshotError, BadSnapshotError) as error:
            log.debug("not read ahead: %s", error)

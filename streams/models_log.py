"""The topic of models, read by name and version: whatever was published stays readable for as long as it is kept.

It has one partition, compacted by ``model/version``, so an adopted version is
never deleted. The newest record of a name whose signature is right counts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from aiokafka import TopicPartition

from journey.errors import MissingModelError
from streams import topics
from streams.errors import SnapshotError
from streams.logs import consumer, partitions_of, read_partitions, spans_of
from streams.settings import Settings
from streams.snapshots import Keys, Snapshot, keys_of, named, payload_of, read

MOST_LOADED: Final = 64  # decoded models

Wanted = tuple[str, int, str | None]  # model, version, and the start of its digest where that is known


class ModelsLog:
    """What is in ``journey.models``, as far as it was asked for.

    ``load`` brings models, ``payload`` gives those that were brought: a fold,
    which cannot wait, finds what was loaded before it.
    """

    def __init__(self, settings: Settings, keys: Keys | None = None) -> None:
        self._settings, self._keys = settings, keys or keys_of(settings)
        self._tp = TopicPartition(settings.topic(topics.MODELS), 0)
        self._next = 0  # offset up to which the index reaches
        self._offsets: dict[tuple[str, int], list[int]] = {}
        self._payloads: OrderedDict[tuple[str, int], tuple[str, dict[str, Any]]] = OrderedDict()
        self.newest: dict[str, int] = {}  # of each model, as of the last look
        # of each version the digest of the first record that is signed with our key, as far as `refresh` looked
        self.digests: dict[tuple[str, int], str] = {}

    async def load(self, wanted: Iterable[Wanted]) -> None:
        """Bring models, verified and decoded, unless they are here.

        Raises
        ------
        MissingModelError
            One is not in the topic, or is not what was signed or adopted.
        """
        missing = [one for one in wanted if not self._is_here(*one)]
        if not missing:
            return
        async with consumer(self._settings) as client:
            await self._index(client)
            for model, number, digest in missing:
                snapshot, faults = await self._found(client, model, number, digest)
                if snapshot is None:
                    raise MissingModelError(model=model, version=number, text=faults)
                try:
                    self._keep(snapshot, payload_of(snapshot))
                except SnapshotError as error:
                    raise MissingModelError(model=model, version=number, text=str(error)) from error

    def payload(self, model: str, number: int, digest: str | None = None) -> dict[str, Any]:
        """Return a model that was loaded. It is everybody's: never to be changed.

        Raises
        ------
        MissingModelError
            It was not.
        """
        if not self._is_here(model, number, digest):
            raise MissingModelError(model=model, version=number, text="it was not loaded")
        return self._payloads[model, number][1]

    async def get(self, model: str, number: int, digest: str | None = None) -> dict[str, Any]:
        """Load one model and return it.

        Raises
        ------
        MissingModelError
            As of `load`.
        """
        await self.load([(model, number, digest)])
        return self.payload(model, number, digest)

    async def refresh(self) -> None:
        """Learn which versions there are, and their digests, up to the end of the topic as of now."""
        async with consumer(self._settings) as client:
            await self._index(client, digests=True)

    async def first(self, model: str, number: int) -> Snapshot | None:
        """Return the first record of a version, known at the last look, that is signed with our key; None without."""
        if (model, number) not in self._offsets:
            return None
        async with consumer(self._settings) as client:
            snapshot, _ = await self._found(client, model, number, None, oldest=True)
        return snapshot

    async def envelopes(self, model: str | None = None) -> list[dict[str, Any]]:
        """Return the envelopes of all versions, of one model or of all, oldest first; ``bytes`` is the payload's size.

        What is not signed with our key is told as ``{"model", "version", "fault"}``.
        """
        found: dict[tuple[str, int], dict[str, Any]] = {}
        async with consumer(self._settings) as client:
            spans = await spans_of(client, await partitions_of(client, self._tp.topic))
            async for _, records in read_partitions(client, spans):
                for record in records:
                    name = named(record.key)
                    if name is None or record.value is None or model not in (None, name[0]):
                        continue
                    told = self._envelope(name, record.value)
                    if "fault" not in told or name not in found:
                        found.pop(name, None)
                        found[name] = told
        return list(found.values())

    def _envelope(self, name: tuple[str, int], value: bytes) -> dict[str, Any]:
        try:
            snapshot = read(value, self._keys)
        except SnapshotError as error:
            return {"model": name[0], "version": name[1], "fault": str(error)}
        if (snapshot.model, snapshot.version) != name:
            return {"model": name[0], "version": name[1], "fault": f"it holds {snapshot.model}/{snapshot.version}"}
        return snapshot.envelope | {"bytes": len(snapshot.payload)}

    async def _index(self, client: Any, *, digests: bool = False) -> None:
        begin, end = (await spans_of(client, await partitions_of(client, self._tp.topic)))[self._tp]
        async for _, records in read_partitions(client, {self._tp: (max(begin, self._next), end)}):
            for record in records:
                name = named(record.key)
                if name is None:
                    continue
                if record.value is None:
                    self._offsets.pop(name, None)
                    self.digests.pop(name, None)
                    continue
                if digests and name not in self.digests and "sha256" in (told := self._envelope(name, record.value)):
                    self.digests[name] = told["sha256"]
                self._offsets.setdefault(name, []).append(record.offset)
                self.newest[name[0]] = max(name[1], self.newest.get(name[0], -1))
        self._next = max(self._next, end)

    async def _found(
        self, client: Any, model: str, number: int, digest: str | None, *, oldest: bool = False
    ) -> tuple[Snapshot | None, str]:
        """Return the record of a version that counts; and without one, what is wrong with those that there are."""
        offsets = self._offsets.get((model, number), ())
        faults = f"{self._tp.topic} has no record {model}/{number}"
        for offset in offsets if oldest else reversed(offsets):
            value = await self._value(client, offset)
            if value is None:  # compacted away since it was indexed
                continue
            try:
                snapshot = read(value, self._keys)
            except SnapshotError as error:
                faults = str(error)
                continue
            if (snapshot.model, snapshot.version) != (model, number):
                faults = f"the record {model}/{number} holds {snapshot.model}/{snapshot.version}"
            elif digest is not None and not snapshot.sha256.startswith(digest):
                faults = f"its digest is {snapshot.sha256:.12}, the adopted one's {digest:.12}"
            else:
                return snapshot, ""
        return None, faults

    async def _value(self, client: Any, offset: int) -> bytes | None:
        async for _, records in read_partitions(client, {self._tp: (offset, offset + 1)}):
            for record in records:
                if record.offset == offset:
                    value: bytes | None = record.value
                    return value
        return None

    def _is_here(self, model: str, number: int, digest: str | None) -> bool:
        known = self._payloads.get((model, number))
        return known is not None and (digest is None or known[0].startswith(digest))

    def _keep(self, snapshot: Snapshot, payload: dict[str, Any]) -> None:
        name = (snapshot.model, snapshot.version)
        self._payloads[name] = snapshot.sha256, payload
        self._payloads.move_to_end(name)
        while len(self._payloads) > MOST_LOADED:
            self._payloads.popitem(last=False)

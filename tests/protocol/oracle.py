"""What has to hold, told without the positions of the engine: at every moment, and when everything has settled."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final
from zlib import crc32

import orjson
from faust.types import TP

from journey.engine import Shard, fold
from journey.entries import encode
from journey.samples import FAMILIES
from journey.state import partition_key
from streams import topics
from streams.checkpoints import Reading
from streams.faust_fixes import LightRecord
from streams.replay import _CutReader
from streams.settings import Settings
from streams.snapshots import Snapshot, keys_of, read
from tests.protocol.given import MARK, given
from tests.protocol.history import EVERYWHERE, Raw

KEYS: Final = keys_of(Settings())
Where = tuple[str, int, int]  # topic, partition, offset


class ViolationError(AssertionError):
    """A promise was broken in a schedule."""


class Watch:
    """Sees every append and every commit at the moment it happens."""

    def __init__(self, partitions: int, changelog: str, journal: str, letters: str, triggers: str) -> None:
        self.partitions = partitions
        self.changelog, self.journal, self.letter_topic, self.trigger_topic = changelog, journal, letters, triggers
        self.expected: dict[Where, Raw] = {}
        self.journalled: defaultdict[Where, set[int]] = defaultdict(set)
        self.letters: dict[Where, bytes] = {}
        self.pages: list[list[list[Any]]] = [[] for _ in range(partitions)]
        self.durable: set[tuple[int, bytes | None, bytes | None]] = set()
        self.folded = [-1] * partitions
        self.final: dict[int, dict[bytes, bytes]] = {}  # the journal folded to its end
        self.triggers: dict[str, bytes] = {}
        self.trigger_repeats = self.went_back = self.sample_repeats = self.scored = 0
        # by family and journal partition the samples that a learner takes, and the place of the last one
        self.samples: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)
        self._places: dict[tuple[str, int], tuple[int, int]] = {}
        self.in_force: dict[str, list[Any]] = {}
        self.models: dict[tuple[str, int], Snapshot] = {}  # that learners published; of each name the first
        self._values: dict[bytes, bytes] = {}
        self._champions: list[
            tuple[str, int]
        ] = []  # slot and version of each record of the models; of others version 0
        self.adopted: dict[str, tuple[int, str]] = {}  # by slot, as the control messages of workers say
        self.alarms: dict[str, bytes] = {}
        self.checkpoints: dict[int, Reading] = {}

    def landed(self, tp: TP, records: list[LightRecord]) -> None:
        """Records were appended to a log."""
        if tp.topic == self.changelog:
            reserved = partition_key(tp.partition)
            for record in records:
                self.durable.add((tp.partition, record.key, record.value))
                if record.key == reserved:
                    self.folded[tp.partition] = max(self.folded[tp.partition], orjson.loads(record.value or b"")["at"])
        elif tp.topic == self.journal:
            for record in records:
                page = orjson.loads(record.value or b"")
                self.pages[tp.partition].append(page)
                for entry in page:
                    if "src" in entry:
                        self.journalled[tuple(entry["src"])].add(tp.partition)
        elif tp.topic == self.trigger_topic:
            for record in records:
                self._trigger(record.value or b"")
        elif tp.topic == topics.SAMPLES:
            for record in records:
                self._sample(tp.partition, record.value or b"")
        elif tp.topic == self.letter_topic:
            for record in records:
                self._letter(record.value or b"")
        elif tp.topic == topics.MODELS:
            for record in records:
                self._model(record.key or b"", record.value or b"")
        elif tp.topic == topics.CHECKPOINTS:
            reading = self.checkpoints.setdefault(tp.partition, Reading(FAMILIES[tp.partition]))
            for record in records:
                reading.take(record.key, record.value)
        elif tp.topic == topics.CONTROL and not self.expected:  # nobody else writes there
            for record in records:
                self._adoption(record.value or b"")
        elif tp.topic == topics.ALARMS:
            for record in records:
                self._alarm(record.value or b"")

    def _sample(self, number: int, body: bytes) -> None:
        """Take a sample as a learner does: what is not above the highest of its journal partition is a repeat."""
        sample = orjson.loads(body)
        family = sample["model"]
        _, partition, *place = sample["src"]
        if FAMILIES[number] != family:
            text = f"a sample of {family} lies in partition {number}"
            raise ViolationError(text)
        if tuple(place) <= self._places.get((family, partition), (-1, -1)):
            self.sample_repeats += 1
            return
        self._places[family, partition] = (place[0], place[1])
        self.samples[family, partition].append(body)

    def _model(self, key: bytes, value: bytes) -> None:
        snapshot = read(value, KEYS)
        name = (snapshot.model, snapshot.version)
        is_champion = snapshot.envelope["role"] == "champion"
        self._champions.append((snapshot.envelope["slot"], snapshot.version if is_champion else 0))
        if MARK in snapshot.model:
            return
        self.models.setdefault(name, snapshot)
        # a fit may be decided differently by one who came too late; the first one counts
        if self._values.setdefault(key, value) != value and not snapshot.model.endswith(".fit"):
            text = f"model {name} was published again with other content"
            raise ViolationError(text)

    def _adoption(self, body: bytes) -> None:
        """Let a message count that replaces what is in force; no version comes after a higher one."""
        message = orjson.loads(body)
        slot, version, known = message["slot"], message["version"], self.adopted.get(message["slot"])
        if message["replaces"] != (None if known is None else known[0]):
            return  # of one who came too late
        if known is not None and version <= known[0]:
            text = f"{slot}: {version} was adopted after {known[0]}"
            raise ViolationError(text)
        self.adopted[slot] = version, message["sha256"]

    def newest(self) -> dict[str, tuple[int, str]]:
        """Return the newest champion of each slot, and the digest under which it was published first."""
        found: dict[str, tuple[int, str]] = {}
        for (model, version), snapshot in self.models.items():
            if snapshot.envelope["role"] == "champion" and version > found.get(model, (0, ""))[0]:
                found[model] = version, snapshot.sha256
        return found

    def _alarm(self, body: bytes) -> None:
        name = orjson.loads(body)["id"]
        if self.alarms.setdefault(name, body) != body:
            text = f"the alarm {name} was repeated with another body"
            raise ViolationError(text)

    def _trigger(self, body: bytes) -> None:
        name = orjson.loads(body)["id"]
        known = self.triggers.setdefault(name, body)
        if known is not body:
            self.trigger_repeats += 1
            if known != body:
                text = f"trigger {name} was repeated with another body:\n{known!r}\n{body!r}"
                raise ViolationError(text)

    def _letter(self, body: bytes) -> None:
        source = orjson.loads(body)["source"]
        where = (source["topic"], source["partition"], source["offset"])
        if self.letters.setdefault(where, body) != body:
            text = f"the dead letter of {where} was repeated with another body"
            raise ViolationError(text)

    def is_there(self, where: Where) -> bool:
        """Tell whether all that a raw record has to become is in its logs."""
        raw = self.expected[where]
        if raw.type == "letter":
            return where in self.letters
        return raw.homes(self.partitions) <= self.journalled[where]

    def committed(self, tp: TP, before: int, after: int) -> None:
        """A group committed a partition: all below has to be durable.

        It may go back: Faust commits what an event of an earlier assignment acknowledges, as long as it has not looked
        up where the partition stands. Then some is read again.
        """
        if after < before:
            self.went_back += 1
        if tp.topic == self.journal:
            if self.folded[tp.partition] < after - 1:
                text = f"{tp} is committed at {after}, its changelog has {self.folded[tp.partition]}"
                raise ViolationError(text)
            return
        if tp.topic == topics.SAMPLES:
            reading = self.checkpoints.get(tp.partition)
            found = None if reading is None else reading.best
            if found is None or found[0]["next"] < after:
                text = f"{tp} is committed at {after}, and no checkpoint covers it: {found}"
                raise ViolationError(text)
            return
        if tp.topic == topics.MODELS:
            for slot, version in self._champions[before:after]:
                if version > self.adopted.get(slot, (0, ""))[0]:
                    text = f"{tp} is committed at {after}, and {slot}/{version} is not adopted: {self.adopted}"
                    raise ViolationError(text)
            return
        for offset in range(before, after):
            if not self.is_there((*tp, offset)):
                text = f"{tp} is committed at {after}, and what record {offset} has to become is not there"
                raise ViolationError(text)

    def shown(self, partition: int, key: bytes, value: bytes | None, at: int) -> None:
        """The read model was told of a customer, whose record it looks up; what is not there it does not show."""
        if at > self.folded[partition] or (value is not None and (partition, key, value) not in self.durable):
            text = f"{key!r} was shown at {at} before it was durable"
            raise ViolationError(text)

    def settled(self, logs: dict[TP, list[LightRecord]]) -> None:
        """Everything has come to rest: compare the logs with what they have to come to."""
        lost = [where for where in self.expected if not self.is_there(where)]
        if lost:
            text = f"lost: {lost}"
            raise ViolationError(text)
        triggers: dict[str, bytes] = {}
        for number in range(self.partitions):
            self.final[number] = self._check_partition(number, logs[TP(self.changelog, number)], triggers)
            self._check_counts(number, self.final[number])
        if triggers != self.triggers:
            missing, surplus = triggers.keys() - self.triggers.keys(), self.triggers.keys() - triggers.keys()
            differing = [name for name, body in triggers.items() if self.triggers.get(name, body) != body]
            text = f"triggers: missing {sorted(missing)}, surplus {sorted(surplus)}, differing {sorted(differing)}"
            raise ViolationError(text)

    def read_back(self, number: int, table: dict[bytes, bytes]) -> None:
        """A table was read back from a compacted changelog: it has to be the journal folded to its end."""
        if table != self.final[number]:
            text = (
                f"after compaction partition {number} is read back otherwise: {_difference(table, self.final[number])}"
            )
            raise ViolationError(text)

    def _check_partition(
        self, number: int, changelog: Iterable[LightRecord], triggers: dict[str, bytes]
    ) -> dict[bytes, bytes]:
        """Compare each consistent cut with the journal folded up to there; return the journal folded to its end."""
        reader, cut = _CutReader(number), None
        cuts: dict[int, dict[bytes, bytes]] = {}
        for record in changelog:
            reader.add(record.key or b"", record.value or b"")
            if reader.cut is not cut:
                cut = reader.cut
                if cut is not None and cuts.setdefault(cut.at, cut.records) != cut.records:
                    text = f"two cuts of partition {number} at {cut.at} differ"
                    raise ViolationError(text)
        shard = Shard(number, lambda _key: None, (), given().library)
        records: dict[bytes, bytes] = {}
        for offset, page in enumerate(self.pages[number]):
            fold(shard, offset, page)
            if offset in cuts:
                records = dict(shard.changes())
                if records != cuts[offset]:
                    text = f"the cut of partition {number} at {offset} differs: {_difference(cuts[offset], records)}"
                    raise ViolationError(text)
        last = len(self.pages[number]) - 1
        if last >= 0 and last not in cuts:
            text = f"the state of partition {number} never reached its journal's end {last}: {sorted(cuts)}"
            raise ViolationError(text)
        for trigger in shard.triggers:
            triggers[trigger.id] = orjson.dumps(trigger.body)
        self._check_samples(number, shard)
        return records

    def _check_samples(self, number: int, shard: Shard) -> None:
        """Compare what a learner takes with the samples of one uninterrupted fold: in order, none lost, none more."""
        expected: dict[str, list[bytes]] = {family: [] for family in FAMILIES}
        for _, sample in shard.samples:
            expected[sample["model"]].append(encode(sample))
        for family, bodies in expected.items():
            found = self.samples[family, number]
            if found != bodies:
                surplus, missing = (
                    [one for one in found if one not in bodies],
                    [one for one in bodies if one not in found],
                )
                text = f"samples of {family} from partition {number}: missing {missing}, surplus {surplus}"
                raise ViolationError(text)

    def _check_counts(self, number: int, records: dict[bytes, bytes]) -> None:
        """Compare what customers did with the raw events, each counted once, and the positions with where they lie."""
        applied: dict[str, int] = {}
        done: defaultdict[str, Counter[str]] = defaultdict(Counter)
        known: set[tuple[str, str]] = set()
        for (topic, partition, offset), raw in self.expected.items():
            if number not in raw.homes(self.partitions):
                continue
            source = f"{topic}/{partition}"
            applied[source] = max(offset, applied.get(source, -1))
            if raw.type in EVERYWHERE or crc32(raw.customer.encode()) % self.partitions != number:
                continue
            if (raw.customer, raw.message_id) in known:
                done[raw.customer]["duplicates"] += 1
            else:
                known.add((raw.customer, raw.message_id))
                done[raw.customer][raw.type] += 1
        found: dict[str, Counter[str]] = {}
        for key, value in records.items():
            record = orjson.loads(value)
            if key == partition_key(number):
                if record["applied"] != applied:
                    text = f"partition {number} has applied {record['applied']}, not {applied}"
                    raise ViolationError(text)
                if record["models"] != self.in_force:
                    text = f"in partition {number} {record['models']} is in force, not {self.in_force}"
                    raise ViolationError(text)
            else:
                self.scored += any(told[1] for told in record.get("scores", {}).values())
                found[key.decode()] = Counter(record.get("counts", {}), duplicates=record.get("duplicates", 0))
        if found != done:
            text = f"partition {number} counts {found}, not {dict(done)}"
            raise ViolationError(text)


def _difference(ours: dict[bytes, bytes], theirs: dict[bytes, bytes]) -> str:
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            return f"{key!r} is {ours.get(key)!r}, folded it is {theirs.get(key)!r}"
    return "nothing"

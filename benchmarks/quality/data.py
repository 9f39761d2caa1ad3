"""The event files of the folder ``JOURNEY_DATA``, as raw records; and what a run over them is.

The files are read by the reader of ``journey load``. They are for research
only: none is part of this project.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from benchmarks.quality import stream
from journey.documents import Sight, document
from journey.events import DAY
from journey.learning import churn_row, segment_row, tastes
from journey.models.boosted import Boosted
from journey.samples import FAMILIES, Sample
from journey.scoring import Ranker
from journey.training import mean_logit
from streams.audits import LABEL
from streams.files import read_events, utc_ms
from streams.raw import RawRecord

DEFAULT: Final = "../shared/data"
DISCOUNTS: Final = ("retail_disc", "coupon_disc", "coupon_match_disc")
GROCERIES: Final = "complete_journey_A"
CLICKS: Final = "taobao"
RECORDS: Final = "cdnow"
TWENTY_YEARS: Final = timedelta(days=7305)  # no event before the year 2000 is accepted: 1997 becomes 2017
FILES: Final = (GROCERIES, CLICKS, RECORDS)
WEEK: Final = 7 * DAY
LISTED: Final = 10
VIEWED: Final = b"product_viewed"
PAGE: Final = 100  # records: so few that weekly looks are on time

Owned = tuple[str, Sample]  # customer key, sample


class Look(NamedTuple):
    """A customer as seen at the end of a week: the row, the segment in force, and its name; None before the first."""

    at: int
    customer: str
    x: list[float]
    segment: int | None
    name: str | None


class Click(NamedTuple):
    """A product view, and the ten that ranked first just before it; None where nothing could be ranked.

    ``shown`` is what the customer's document recommended: without what lies
    in the cart and what was bought within a day.
    """

    at: int
    customer: str
    item: str
    top: list[str] | None
    shown: list[str] | None = None


@dataclass
class Run:
    """What is left of a run of the product over a stream.

    Attributes
    ----------
    samples
        With the customer, in the order of the log of each family.
    snapshots
        The payload of each version that was published, by model and version.
    fitted_at
        Up to when (ms) each of them had learned.
    looks
        Every customer with a segment at the end of each week, if asked for.
    clicks
        Every product view, if asked for.
    """

    samples: list[Owned] = field(default_factory=list)
    snapshots: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    fitted_at: dict[tuple[str, int], int] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    clicks: list[Click] = field(default_factory=list)


def followed(
    records: Iterable[RawRecord], *, weekly: bool = False, clicks_from: int | None = None,
    families: Iterable[str] = FAMILIES,
) -> Run:  # fmt: skip
    """Run the product over raw records, and look at its customers meanwhile.

    Parameters
    ----------
    weekly
        Look at the segment of everybody at the end of each week: after the
        page of records that passes it.
    clicks_from
        Note product views; from this moment (ms) on with what was
        recommended just before, for which each record is a page.
    families
        Those that learn.
    """
    found = Run()
    watch = _Watch(found, weekly=weekly, clicks_from=clicks_from)
    page = PAGE if clicks_from is None else 1
    done = stream.run(watch.seen(records), on_page=watch.on_page, page=page, families=families)
    found.samples = done.samples
    for one in done.published:
        found.snapshots[one.model, one.version] = one.payload
        found.fitted_at[one.model, one.version] = one.trained["at"]
    return found


def buyers_at(records: Iterable[RawRecord], moments: Sequence[int]) -> list[Sample]:
    """Return the row of ``churn/1`` of every buyer at some moments (ms, ascending), whatever their orders.

    What is folded at each of them is all that happened before it. Rows have
    the customer and the moment (``scored_at``), and no label.
    """
    found: list[Sample] = []
    left = deque(moments)
    done: list[stream.Run] = []

    def seen() -> Iterator[RawRecord]:
        for record in records:
            while left and record.at >= left[0]:
                now = left.popleft()
                found.extend(
                    {"customer": key, "x": churn_row(customer, now), "scored_at": now}
                    for key, customer in sorted(done[0].customers.items() if done else ())
                    if "rhythm" in customer
                )
            yield record

    stream.run(seen(), families=(), on_page=lambda run: done.append(run) if not done else None, page=1)
    return found


class _Watch:
    """Sees the records before they are folded, and the customers after each page."""

    def __init__(self, found: Run, *, weekly: bool, clicks_from: int | None) -> None:
        self._found, self._weekly, self._clicks_from = found, weekly, clicks_from
        self._done: stream.Run | None = None
        self._at = 0
        self._week: int | None = None

    def seen(self, records: Iterable[RawRecord]) -> Iterator[RawRecord]:
        """Return the records as they are."""
        for record in records:
            self._at = max(self._at, record.at)
            if self._clicks_from is not None and VIEWED in record.value:
                self._click(record, self._clicks_from)
            yield record

    def on_page(self, done: stream.Run) -> None:
        """Look at everybody when a week has ended."""
        self._done = done
        week = self._at // WEEK
        if self._weekly and self._week is not None and week > self._week:
            for customer in done.customers.values():
                known = customer.get("segment")
                if known is not None:
                    is_learned = known["version"] > 0
                    row = segment_row(customer, week * WEEK)
                    number, name = (known["k"], known["name"]) if is_learned else (None, None)
                    self._found.looks.append(Look(week * WEEK, customer["key"], row, number, name))
        self._week = week

    def _click(self, record: RawRecord, begin: int) -> None:
        try:
            event = orjson.loads(record.value)
            kind, item = event["type"], str(event["data"]["item"]["item_id"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return  # arrival refuses it
        if kind != "click.product_viewed":
            return
        key, top, shown = record.key.decode(), None, None
        customer = None if self._done is None else self._done.customers.get(key)
        if record.at >= begin and self._done is not None and customer is not None:
            models = self._done.shard.models
            ranker = models.get("recs")
            if isinstance(ranker, Ranker):
                top = [one.item for one in ranker.recommend(tastes(customer, record.at))]
                shown = [one["item_id"] for one in document(customer, 0, Sight(models, None))[1]["recommendations"]]
        self._found.clicks.append(Click(record.at, key, item, top, shown))


def blended(run: Run, family: str) -> list[float | None]:
    """Return the mean logit of the model in force and of the newest boosted trees, for each labelled row of a family.

    Each row is scored with the trees that there were when it was scored; None before the first.
    """
    name = f"{family}.boosted"
    fits = sorted(
        (at, number) for (model, number), at in run.fitted_at.items()
        if model == name and run.snapshots[model, number].get("state") is not None
    )  # fmt: skip
    moments = [at for at, _ in fits]
    held: dict[int, Boosted] = {}
    scores: list[float | None] = []
    for _, sample in labelled(run, family):
        place = bisect_right(moments, sample["scored_at"]) - 1
        if place < 0 or sample["p"] is None:
            scores.append(None)
            continue
        number = fits[place][1]
        if number not in held:
            held[number] = Boosted.restore(run.snapshots[name, number]["state"])
        scores.append(mean_logit(sample["p"], held[number].score(sample["x"])))
    return scores


def folder() -> Path | None:
    """Return the folder of event files; None where it is absent or a file is missing."""
    found = Path(os.environ.get("JOURNEY_DATA") or DEFAULT)
    return found if all((found / f"{name}.csv.gz").is_file() for name in FILES) else None


def events(
    path: Path,
    name: str,
    *,
    customers: Collection[str] | None = None,
    by_category: bool = False,
    until: int | None = None,
) -> Iterator[RawRecord]:
    """Return an event file as raw records, in the order of time.

    Parameters
    ----------
    customers
        Only these, by key (``u:42``); None: all.
    by_category
        A category of goods stands for all its items: of the groceries, some
        290 instead of tens of thousands, which is what households buy again.
    until
        Only records before this moment, ms.
    """
    money = {} if name == CLICKS else {"currency": "USD", "discounts": DISCOUNTS}
    wanted = None if customers is None else {key.encode() for key in customers}
    shift = TWENTY_YEARS if name == RECORDS else timedelta()
    for record in read_events(path / f"{name}.csv.gz", shift=shift, **money):  # type: ignore[arg-type]
        if until is not None and record.at >= until:
            return
        if wanted is not None and record.key not in wanted:
            continue
        yield categories_for_items(record) if by_category else record


def categories_for_items(record: RawRecord) -> RawRecord:
    """Return a record in which the category of each item is its id; an item without one keeps its own."""
    event = orjson.loads(record.value)
    data = event.get("data", {})
    for item in [*data.get("items", ()), *([data["item"]] if "item" in data else ())]:
        item["item_id"] = item.get("category") or item["item_id"]
    return RawRecord(record.topic, record.key, orjson.dumps(event), record.at)


def drawn(customers: Iterable[str], number: int) -> list[str]:
    """Return so many customers, chosen by a hash of their ids: a larger number has the smaller one's too.

    >>> drawn(["u:1", "u:2", "u:3"], 2) == drawn(["u:3", "u:2", "u:1"], 3)[:2]
    True
    """

    def place(key: str) -> bytes:
        return blake2b(key.removeprefix("u:").encode()).digest()

    return sorted(set(customers), key=place)[:number]


def of_family(run: Run, model: str) -> list[Owned]:
    """Return the samples of one family with their customers."""
    return [owned for owned in run.samples if owned[1]["model"] == model]


def labelled(run: Run, model: str) -> list[Owned]:
    """Return the samples of one family that are scored rows with their label."""
    return [owned for owned in of_family(run, model) if owned[1]["kind"] == LABEL]


def moment(text: str) -> int:
    """Return a UTC time as milliseconds.

    >>> moment("1997-10-01")
    875664000000
    """
    return utc_ms(text)

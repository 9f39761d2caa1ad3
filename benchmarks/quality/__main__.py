"""Quality of the models, through the product's own path: raw records, journal, fold, samples, learners, adoption.

Prints one Markdown table. Seeds are fixed: the same versions of the libraries
give the same table.
"""

from __future__ import annotations

import argparse
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import log1p
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from benchmarks.quality import ceilings, report
from benchmarks.quality.data import (
    CLICKS,
    DEFAULT,
    GROCERIES,
    RECORDS,
    Run,
    blended,
    buyers_at,
    drawn,
    events,
    folder,
    followed,
    labelled,
    moment,
    of_family,
)
from benchmarks.quality.report import BLEND, Line
from journey.events import DAY
from journey.models.lifetime import AHEAD_WEEKS, Lifetime, fit
from journey.samples import Sample
from streams.audits import Centres, Quality, SegmentsAudit, centres_of, one_thread
from streams.cli_audit import streamed
from streams.pictures import reliability, segment_map
from streams.shop import CUSTOMERS, DAYS, START_MS, generate, state_at

GROCERIES_CUT: Final = moment("2017-07-02")  # day 182
CLICKS_CUT: Final = moment("2017-11-30T16:00:17")  # the last three of nine days
PICTURES: Final = Path("build")
RECORDS_CUT: Final = moment("2017-10-01")  # of 1997
QUARTER: Final = 90 * DAY
MONTH: Final = 28 * DAY
RECORDS_CUSTOMERS: Final = 2357  # as many as in the sample that was published
HOUSEHOLDS: Final = (50, 100, 300)
NEWEST: Final = 2_500  # rows: an eighth of 20,000 baskets, the quarter that the reference is of
SEEDS: Final = (1, 2, 3)
SETTLED: Final = 90  # days of a generated shop, which begins with no customers
# r, alpha, a, b of Fader, Hardie and Lee (2005), p, q, v of Fader and Hardie (2013), for the same sample of CDNOW
PUBLISHED: Final = (0.243, 4.414, 0.793, 2.426, 6.25, 3.74, 15.44, (1.0, 6.8, 32.7, 35.0), 2357, 946, -9582.4, 0.11)


Planted = Mapping[str, Sequence[tuple[int, str]]]  # customer: since when, which state


class Found(NamedTuple):
    """Lines of the table, and what pictures are drawn of."""

    lines: list[Line]
    qualities: list[Quality]
    segments: SegmentsAudit | None = None


def say(text: str) -> None:
    """Tell how far the run is."""
    print(f"{time.perf_counter() - _BEGIN:4.0f} s  {text}", file=sys.stderr, flush=True)


def newest(found: Run, model: str) -> Any:
    """Return the newest version of a model that was published in a run; None where there is none."""
    versions = [
        number
        for (name, number), payload in found.snapshots.items()
        if name == model and payload.get("state") is not None
    ]
    return found.snapshots[model, max(versions)] if versions else None


def centres(found: Run) -> Centres | None:
    """Return the segments as they were at the end of a run."""
    payload = newest(found, "segments")
    return None if payload is None else centres_of(payload)


def churn(path: Path) -> Found:
    """Measure churn on a panel of households."""
    found = followed(events(path, GROCERIES, by_category=True), families=("churn",))
    say(f"{GROCERIES}, churn: {len(found.samples):,} samples")
    owned = labelled(found, "churn")
    rows = report.evaluated(owned, GROCERIES_CUT)
    lines, qualities = report.probability_lines(
        "churn", GROCERIES, rows, GROCERIES_CUT, below_batch=0.01, above_trivial=0.06, most_ece=0.02
    )
    lines += report.challenger_lines("churn", GROCERIES, owned, blended(found, "churn"), GROCERIES_CUT, BLEND)
    return Found(lines, [one._replace(name=f"churn, {one.name}") for one in qualities])


def small(path: Path) -> Found:
    """Measure churn in small shops: some of the same households."""
    households = {record.key.decode() for record in events(path, GROCERIES)}
    lines = []
    for number in HOUSEHOLDS:
        few = events(path, GROCERIES, by_category=True, customers=drawn(households, number))
        lines.append(report.small_shop_line(number, GROCERIES, labelled(followed(few, families=("churn",)), "churn")))
        say(f"{number} households")
    return Found(lines, [])


def tills(path: Path) -> Found:
    """Measure segments of a shop without clicks: the same households."""
    found = followed(events(path, GROCERIES, by_category=True), weekly=True, families=("segments",))
    say(f"{GROCERIES}, segments: {len(found.samples):,} samples")
    lines = report.segment_lines(GROCERIES, found.looks, None, most_flips=0.07)
    today, observed = centres(found), of_family(found, "segments")
    if today is not None:
        lines.append(report.squares_line(GROCERIES, observed, today, NEWEST, 1.10))
        lines.append(report.squares_line(f"{GROCERIES}, whole year", observed, today, len(observed), 1.10))
    return Found(lines, [], report.segments_of(observed, today))


def baskets(path: Path) -> Found:
    """Measure recommendations and rules on the baskets of the same households."""
    found = followed(events(path, GROCERIES, by_category=True), families=("recs",))
    say(f"{GROCERIES}, baskets: {len(found.samples):,} samples")
    lines = report.basket_lines(f"{GROCERIES}, a fifth", found, above_popular=0.07, least_new=0.235)
    lines += report.reference_lines(f"{GROCERIES}, as the reference", found, least_new=0.235)
    first = [sorted({item[0] for item in sample["items"]}) for _, sample in of_family(found, "recs")][: report.BASKETS]
    lines.append(report.rules_line(GROCERIES, first, streamed(first)))
    return Found(lines, [])


def clicks(path: Path) -> Found:
    """Measure purchase intent and the next product view on nine days of clicks."""
    found = followed(events(path, CLICKS), clicks_from=CLICKS_CUT)
    say(f"{CLICKS}: {len(found.samples):,} samples")
    rows = report.evaluated(labelled(found, "intent"), CLICKS_CUT)
    lines, qualities = report.probability_lines(
        "intent", f"{CLICKS}, last 3 days", rows, CLICKS_CUT, below_batch=0.015, above_trivial=0.0, most_ece=0.02
    )
    lines += report.click_lines(f"{CLICKS}, last 3 days", found.clicks, CLICKS_CUT)
    return Found(lines, [one._replace(name=f"intent, {one.name}") for one in qualities])


def records(path: Path) -> Found:
    """Measure lifetime value and churn on eighteen months of orders.

    A tenth of the customers goes through the whole product (every buyer is
    sampled each week); the fit alone is also made for all of them.
    """
    everybody = ceilings.buyers(orders(path), RECORDS_CUT)
    tenth = drawn([buyer.customer for buyer in everybody], RECORDS_CUSTOMERS)
    data = f"{RECORDS}, {RECORDS_CUSTOMERS:,} customers"
    found = followed(events(path, RECORDS, customers=tenth))
    say(f"{data}: {len(found.samples):,} samples")
    rows = report.evaluated(labelled(found, "churn"), RECORDS_CUT)
    lines, _ = report.probability_lines(
        "churn", data, rows, RECORDS_CUT, below_batch=0.01, above_trivial=0.0, most_ece=0.03
    )
    del found
    lines += report.quarter_lines(f"{RECORDS}, all", *_quarters(path), RECORDS_CUT, QUARTER, 0.779)
    say(f"{RECORDS}: rows of all buyers")
    payload = newest(followed(events(path, RECORDS, customers=tenth, until=RECORDS_CUT)), "clv")
    few = set(tenth)
    for name, buyers, state in (
        (data, [buyer for buyer in everybody if buyer.customer in few], payload and payload["state"]),
        (f"{RECORDS}, all, fit alone", everybody, fit([[*buyer[1:5]] for buyer in everybody])),
    ):
        if state is not None:
            model = Lifetime.restore(state)
            lines += report.value_lines(name, buyers, partial(_orders, model), partial(_money, model), AHEAD_WEEKS)
    lines.append(report.published_line(Lifetime(*PUBLISHED).orders(2, 30.43, 38.86, AHEAD_WEEKS)))
    return Found(lines, [])


def _quarters(path: Path) -> tuple[list[Sample], list[Sample]]:
    """Return the row of every buyer each fourth week up to the cut; label 1 where no order came in the 90 days after.

    And the same rows with the logarithms of days since the last order, orders and money spent for features.
    All customers, as in the split that the reference was measured on: of a
    tenth of them, AUC is known to three hundredths.
    """
    moments = range(RECORDS_CUT - (RECORDS_CUT - moment("2017-02-01")) // MONTH * MONTH, RECORDS_CUT + 1, MONTH)
    bought: dict[str, list[tuple[int, float]]] = {}
    for customer, at, money in orders(path):
        bought.setdefault(customer, []).append((at, money))
    rows = buyers_at(events(path, RECORDS), moments)
    rfm: list[Sample] = []
    for row in rows:
        now = row["scored_at"]
        past = [(at, money) for at, money in bought[row["customer"]] if at < now]
        row["y"] = int(not any(now <= at < now + QUARTER for at, _ in bought[row["customer"]]))
        rfm.append({**row, "x": [row["x"][0], log1p(len(past)), log1p(sum(money for _, money in past))]})
    return rows, rfm


def _orders(model: Lifetime, buyer: ceilings.Buyer) -> float:
    return model.orders(buyer.repeats, buyer.weeks_bought, buyer.weeks)


def _money(model: Lifetime, buyer: ceilings.Buyer) -> float:
    return model.worth(buyer.repeats, buyer.weeks_bought, buyer.weeks, buyer.mean)


def orders(path: Path) -> Iterator[tuple[str, int, float]]:
    """Return (customer, ms, money) of each order of the file, exactly as its rows say."""
    for record in events(path, RECORDS):
        data = orjson.loads(record.value)["data"]
        yield record.key.decode(), record.at, data.get("revenue_minor", 0) / 100


def shop(_: Path) -> Found:
    """Measure segments in generated shops, where what each customer is at each time is known."""
    lines: list[Line] = []
    for seed in SEEDS:
        found = followed(generate(seed=seed), weekly=True, families=("segments",))
        say(f"generated shop {seed}: {len(found.samples):,} samples")
        planted = state_at(seed, CUSTOMERS, days=DAYS)

        def truth(customer: str, at: int, planted: Planted = planted) -> str:
            phases = planted[customer]
            return phases[max(0, bisect_right(phases, at, key=lambda phase: phase[0]) - 1)][1]

        known = [look for look in found.looks if look.customer in planted]
        lines += report.segment_lines(
            f"generated shop {seed}, from day {SETTLED} on", known, truth, most_flips=0.07,
            since=START_MS + SETTLED * DAY, least=0.46,
        )  # fmt: skip
    return Found(lines, [])


PARTS: Final[dict[str, Callable[[Path], Found]]] = {
    "churn": churn, "small": small, "tills": tills, "baskets": baskets, "clicks": clicks, "records": records,
    "shop": shop,
}  # fmt: skip


@one_thread()
def main() -> None:
    """Run the parts that were asked for, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}, comma-separated")
    for name, what in (("reliability", "reliability diagram"), ("segments", "map of segments")):
        place = PICTURES / f"{name}.svg"
        parser.add_argument(f"--{name}", type=Path, default=place, help=f"where to write the {what}, {place}")
    told = parser.parse_args()
    wanted = told.only.split(",")
    if unknown := sorted(set(wanted) - PARTS.keys()):
        parser.error(f"no part is named {', '.join(unknown)}")
    path = folder()
    if path is None:
        say(f"skipped: no event files in JOURNEY_DATA, nor in {DEFAULT}; only what needs none of them is measured")
        wanted = [name for name in wanted if name == "shop"]
    lines: list[Line] = []
    qualities: list[Quality] = []
    segments = None
    for name in wanted:
        found = PARTS[name](path or Path())
        lines += found.lines
        qualities += found.qualities
        segments = found.segments or segments
    print(report.markdown(lines))
    if qualities:
        _drawn(told.reliability, reliability("What was said, and what happened", qualities))
    if segments is not None:
        _drawn(told.segments, segment_map(f"Segments of {GROCERIES}", segments))
    say("done")


def _drawn(path: Path, picture: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture)
    say(f"drawn: {path}")


_BEGIN: Final = time.perf_counter()

if __name__ == "__main__":
    main()

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import mean, median
from typing import Any

import orjson
import pytest

from journey.events import DAY, MINUTE
from streams.arrivals import VALUE_BYTES
from streams.files import utc_ms
from streams.raw import TOPIC_OF_CLASS, RawRecord
from streams.records import parse_events
from streams.shop import (
    BAD_KINDS,
    BUNDLES,
    CUSTOMERS,
    DAYS,
    START_MS,
    STATES,
    Shop,
    expected,
    generate,
    open_shop,
    planted_states,
    promotions,
    state_at,
)
from tests.factories import loaded

JOURNAL_PARTITIONS = 8
REGULARS = ("repeat", "bargain", "loyal", "returner")

Happenings = list[tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class Arrived:
    """A record as ingest meets it, long after."""

    topic: str
    key: bytes
    value: bytes
    offset: int
    partition: int = 0
    timestamp: int = START_MS + 1000 * DAY
    headers: tuple[tuple[str, bytes], ...] = ()


@pytest.fixture(scope="module")
def shop() -> Shop:
    return open_shop()


@pytest.fixture(scope="module")
def by_customer(shop: Shop) -> dict[str, Happenings]:
    return events_by_customer(shop)


@pytest.fixture(scope="module")
def orders(by_customer: dict[str, Happenings]) -> dict[str, Happenings]:
    """Return each customer's orders in their order, every one once."""
    return {key: list(orders_of(happenings)) for key, happenings in by_customer.items()}


def orders_of(happenings: Happenings) -> Iterator[tuple[int, dict[str, Any]]]:
    known = set()
    for at, happened in happenings:
        if happened["type"] == "purchase.order_completed" and happened["data"]["order_id"] not in known:
            known.add(happened["data"]["order_id"])
            yield at, happened["data"]


def event(record: RawRecord) -> dict[str, Any] | None:
    """Return the event of an accepted or repeated record, None of a bad one."""
    try:
        found = orjson.loads(record.value)
    except orjson.JSONDecodeError:
        return None
    is_bad = not isinstance(found, dict) or (found.get("message_id") or "").startswith("b-")
    return None if is_bad else found


def events_by_customer(shop: Shop) -> dict[str, Happenings]:
    """Return what each customer did under any of their ids, under the key of ``planted_states``."""
    found = [(record, happened) for record in shop.records if (happened := event(record)) is not None]
    users = {
        happened["anonymous_id"]: happened["user_id"]
        for record, happened in found
        if record.key.startswith(b"u:") and "anonymous_id" in happened
    }
    by_customer: dict[str, Happenings] = defaultdict(list)
    for record, happened in found:
        key = record.key.decode()
        user = users.get(key[2:]) if key.startswith("a:") else None
        by_customer[f"u:{user}" if user else key].append((record.at, happened))
    return by_customer


def digest_in_another_process(hash_seed: int, **arguments: int) -> str:
    program = (
        "import hashlib; from streams.shop import generate; h = hashlib.sha256()\n"
        f"for r in generate(**{arguments!r}): h.update(repr((r.topic, r.key, r.value, r.at)).encode())\n"
        "print(h.hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    return told.stdout.decode().strip()


class TestDeterminism:
    @pytest.mark.parametrize("arguments", [{"seed": 7, "customers": 60, "events": 1500}, {"seed": 7, "customers": 40}])
    def test_every_process_generates_the_same_bytes(self, arguments: dict[str, int]) -> None:
        assert digest_in_another_process(1, **arguments) == digest_in_another_process(2, **arguments)

    def test_another_seed_is_another_shop(self) -> None:
        one, other = (open_shop(seed=seed, customers=40, events=400) for seed in (1, 2))
        values = {record.value for record in one.records} & {record.value for record in other.records}
        assert values <= {b""}
        assert not set(planted_states(1, 40)) & set(planted_states(2, 40))

    def test_summary_and_records_belong_together(self) -> None:
        arguments = {"seed": 3, "customers": 30, "events": 600, "days": 20}
        shop = open_shop(**arguments)
        assert tuple(generate(**arguments)) == tuple(shop.records)
        assert expected(**arguments) == shop.summary


class TestRecords:
    def test_they_come_in_the_order_of_their_reception(self, shop: Shop) -> None:
        times = [record.at for record in shop.records]
        assert times == sorted(times)
        assert (shop.summary.first_at, shop.summary.last_at) == (times[0], times[-1])
        assert 0 <= times[0] - START_MS < DAY

    def test_all_but_late_ones_lie_within_the_days(self, shop: Shop) -> None:
        assert utc_ms("2026-06-01T00:00:00Z") == START_MS
        beyond = sum(record.at >= START_MS + DAYS * DAY for record in shop.records)
        assert shop.records[-1].at < START_MS + (DAYS + 3) * DAY
        assert beyond < 0.002 * len(shop.records)

    def test_months_pass(self, shop: Shop) -> None:
        assert shop.summary.last_at - shop.summary.first_at > 120 * DAY
        by_month = Counter((record.at - START_MS) // (30 * DAY) for record in shop.records)
        assert min(by_month[month] for month in range(DAYS // 30)) > 0.1 * len(shop.records)

    def test_a_good_record_says_when_it_was_received(self, shop: Shop) -> None:
        for record in shop.records:
            if (happened := event(record)) is not None:
                assert utc_ms(happened["received_at"]) == record.at
                assert len(record.value) < 4096

    def test_topic_and_key_are_those_of_the_event(self, shop: Shop) -> None:
        for record in shop.records:
            if (happened := event(record)) is not None:
                assert record.topic == TOPIC_OF_CLASS[happened["type"].partition(".")[0]]
                kind, _, name = record.key.decode().partition(":")
                assert happened["user_id" if kind == "u" else "anonymous_id"] == name


class TestCounts:
    def test_published_is_accepted_and_repeated_and_refused(self, shop: Shop) -> None:
        summary = shop.summary
        assert summary.published == len(shop.records)
        assert summary.accepted + summary.duplicates + summary.dead_lettered == summary.published
        assert 60_000 < summary.published < 110_000

    def test_as_many_events_as_were_asked_for_and_some_more(self) -> None:
        for customers, events in ((100, 2_000), (100, 6_000), (40, 8_000)):
            assert events <= expected(customers=customers, events=events).accepted <= 1.2 * events

    @pytest.mark.parametrize(
        ("customers", "events", "days"), [(1, 0, 3), (1, 300, 90), (20, 100, 7), (300, 500, 30), (8, 4000, 3)]
    )
    def test_shops_of_any_size(self, customers: int, events: int, days: int) -> None:
        shop = open_shop(customers=customers, events=events, days=days)
        assert shop.summary.accepted >= max(events, customers)
        assert set(events_by_customer(shop)) == set(planted_states(customers=customers))
        assert shop.summary.published == len(shop.records)

    @pytest.mark.parametrize(("customers", "days"), [(0, 90), (-1, 90), (1, 2)])
    def test_no_shop_without_customers_or_days(self, customers: int, days: int) -> None:
        with pytest.raises(ValueError, match="a shop needs"):
            open_shop(customers=customers, days=days)

    def test_ingest_counts_the_same(self, shop: Shop) -> None:
        """The validator of arrival accepts and refuses exactly what the summary says."""
        by_topic: dict[str, list[Arrived]] = defaultdict(list)
        for offset, record in enumerate(shop.records):
            by_topic[record.topic].append(Arrived(record.topic, record.key, record.value, offset))
        accepted: list[tuple[str, str]] = []
        links: set[tuple[str, str]] = set()
        refused = 0
        for topic, records in by_topic.items():
            for parsed in parse_events(topic.partition(".")[2], records, JOURNAL_PARTITIONS):
                refused += parsed.dead_letter is not None
                for index, (_, entry) in enumerate(loaded(parsed)):
                    if index == 0:
                        accepted.append((entry["c"], entry["id"]))
                    if entry["k"] == "link":
                        links.add((entry["c"], entry["to"]))
                    elif "link" in entry:
                        links.add((entry["link"], entry["c"]))
        assert refused == shop.summary.dead_lettered
        assert len(set(accepted)) == shop.summary.accepted
        assert len(accepted) - len(set(accepted)) == shop.summary.duplicates
        assert len(links) == shop.summary.links

    def test_a_duplicate_is_the_same_event_received_again_within_a_day(self, shop: Shop) -> None:
        first: dict[str, tuple[int, dict[str, Any]]] = {}
        repeated = 0
        for record in shop.records:
            happened = event(record)
            if happened is None or "message_id" not in happened:
                continue
            del happened["received_at"]
            at, before = first.setdefault(happened["message_id"], (record.at, happened))
            if before is not happened:
                repeated += 1
                assert before == happened
                assert 1000 <= record.at - at < DAY
        assert repeated == shop.summary.duplicates

    def test_types_orders_and_revenue_are_those_of_the_events(self, shop: Shop) -> None:
        distinct: dict[str, dict[str, Any]] = {}
        without_id = 0
        for record in shop.records:
            if (happened := event(record)) is not None:
                without_id += "message_id" not in happened
                distinct[happened.get("message_id", f"none {without_id}")] = happened
        assert Counter(happened["type"] for happened in distinct.values()) == shop.summary.types
        orders = {
            happened["data"]["order_id"]: happened["data"].get("revenue_minor", 0)
            for happened in distinct.values()
            if happened["type"] == "purchase.order_completed"
        }
        assert (len(orders), sum(orders.values())) == (shop.summary.orders, shop.summary.revenue_minor)


class TestDefects:
    @pytest.mark.parametrize(
        ("name", "thousandths", "of"),
        [
            ("late", 10, ("click.page_viewed", "click.product_viewed")),
            ("out_of_order", 20, ("click.", "cart.")),
            ("future_clock", 1, ("click.",)),
            ("bare", 20, ("click.", "cart.", "profile.")),
            ("order_sent_twice", 10, ("purchase.order_completed",)),
        ],
    )
    def test_shares(self, shop: Shop, name: str, thousandths: int, of: tuple[str, ...]) -> None:
        total = sum(count for kind, count in shop.summary.types.items() if kind.startswith(of))
        assert 0.4 * thousandths <= 1000 * shop.summary.defects[name] / total <= 1.9 * thousandths

    def test_one_in_a_hundred_comes_twice_and_one_in_a_hundred_is_bad(self, shop: Shop) -> None:
        summary = shop.summary
        assert 0.007 < summary.duplicates / summary.published < 0.013
        assert 0.009 < summary.dead_lettered / summary.published < 0.011

    def test_late_and_disordered_events_are_seen(self, shop: Shop) -> None:
        late = disordered = 0
        newest: dict[bytes, str] = {}
        for record in shop.records:
            happened = event(record)
            if happened is None or "sent_at" in happened:
                continue
            occurred = happened["occurred_at"]
            late += record.at - utc_ms(occurred) > DAY
            disordered += occurred < newest.get(record.key, "")
            if not occurred.startswith("2099"):
                newest[record.key] = max(newest.get(record.key, ""), occurred)
        assert late > 30
        assert disordered > late

    def test_wrong_clocks_are_corrected_by_their_time_of_sending(self, shop: Shop) -> None:
        skewed = 0
        for record in shop.records:
            happened = event(record)
            if happened is None or "sent_at" not in happened:
                continue
            sent, occurred = utc_ms(happened["sent_at"]), utc_ms(happened["occurred_at"])
            assert 0 <= sent - occurred <= 3 * DAY
            skewed += abs(record.at - sent) > 50_000 and record.at - sent < DAY
        assert skewed >= 0.9 * shop.summary.defects["skewed_clock"]

    def test_every_kind_of_bad_record_is_refused_for_its_reason(self, shop: Shop) -> None:
        assert set(shop.summary.bad) == set(BAD_KINDS)
        assert min(shop.summary.bad.values()) > 10
        bad = [record for record in shop.records if event(record) is None]
        reasons: Counter[str] = Counter()
        for offset, record in enumerate(bad):
            message = Arrived(record.topic, record.key, record.value, offset)
            (parsed,) = parse_events(record.topic.partition(".")[2], [message], JOURNAL_PARTITIONS)
            assert parsed.dead_letter is not None, record.value[:500]
            reasons[orjson.loads(parsed.dead_letter[1])["reason"]] += 1
        allowed = {reason for kinds in BAD_KINDS.values() for reason in kinds}
        assert set(reasons) <= allowed
        for reason in allowed:
            surely = sum(shop.summary.bad[kind] for kind, told in BAD_KINDS.items() if told == (reason,))
            possibly = sum(shop.summary.bad[kind] for kind, told in BAD_KINDS.items() if reason in told)
            assert surely <= reasons[reason] <= possibly
        assert any(len(record.value) > VALUE_BYTES for record in bad)


class TestPlantedStates:
    def test_shares(self) -> None:
        counts = Counter(planted_states(customers=1000).values())
        assert {state: count / 10 for state, count in counts.items()} == {
            state: policy.share for state, policy in STATES.items()
        }

    def test_a_few_customers_show_most_states(self) -> None:
        assert len(set(planted_states(customers=40).values())) >= 7

    def test_customers_are_in_one_state_after_another_and_in_the_planted_one_in_the_end(
        self, by_customer: dict[str, Happenings]
    ) -> None:
        planted, history = planted_states(), state_at()
        assert set(by_customer) == set(planted) == set(history)
        moves: Counter[tuple[str, str]] = Counter()
        for key, phases in history.items():
            assert phases[-1][1] == planted[key]
            assert all(before < after for (before, _), (after, _) in pairwise(phases))
            assert START_MS <= phases[0][0] <= phases[-1][0] <= START_MS + DAYS * DAY
            assert abs(by_customer[key][0][0] - phases[0][0]) < 2 * DAY
            moves.update((before, after) for (_, before), (_, after) in pairwise(phases))
        assert {move for move, count in moves.items() if count > 10} == {
            ("window_shopper", "one_time"),
            ("repeat", "loyal"),
            ("repeat", "lapsing"),
            ("loyal", "lapsing"),
            ("bargain", "lapsing"),
        }

    def test_customers_order_as_planted(self, orders: dict[str, Happenings]) -> None:
        """What begins on the day of a change may belong to the state before or after it."""
        for key, phases in state_at().items():
            ends = [begin for begin, _ in phases[1:]] + [START_MS + DAYS * DAY]
            for (begin, state), end in zip(phases, ends, strict=True):
                least, most = STATES[state].orders
                assert least <= sum(begin - 2 * DAY <= at < end + 2 * DAY for at, _ in orders[key])
                if most is not None:
                    assert sum(begin + 2 * DAY <= at < end - 2 * DAY for at, _ in orders[key]) <= most

    def test_everybody_has_a_rhythm_of_their_own(self, orders: dict[str, Happenings]) -> None:
        means: dict[str, list[float]] = defaultdict(list)
        for key, phases in state_at().items():
            times = [at for at, _ in orders[key]]
            if len(phases) == 1 and phases[0][1] in ("loyal", "repeat") and len(times) > 4:
                means[phases[0][1]].append(mean(after - before for before, after in pairwise(times)) / DAY)
        for state, found in means.items():
            low, high = STATES[state].gap
            assert len(found) > 40
            assert low < median(found) < high
            assert max(found) > 1.5 * min(found)
        assert median(means["repeat"]) > 1.7 * median(means["loyal"])

    def test_bargain_hunters_buy_with_coupons_while_there_are_promotions(self, orders: dict[str, Happenings]) -> None:
        sales = promotions()
        assert len(sales) >= 5
        found = 0
        for key, phases in state_at().items():
            if [state for _, state in phases] == ["bargain"]:
                for at, order in orders[key]:
                    found += 1
                    assert any(begin < at < end for begin, end, _ in sales)
                    assert order["coupon"]["id"] in {name for _, _, (name, _) in sales}
                    assert order.get("revenue_minor") is None or order["discount_minor"] > 0
        assert found > 300

    def test_who_lapses_buys_rarer_and_with_coupons_before_and_hardly_after(
        self, orders: dict[str, Happenings]
    ) -> None:
        soon, long_before, after = [], [], 0
        lapsing = {key: phases for key, phases in state_at().items() if phases[-1][1] == "lapsing"}
        for key, phases in lapsing.items():
            (_, state), (begin, _) = phases
            after += sum(at >= begin + 2 * DAY for at, _ in orders[key])
            assert not [at for at, _ in orders[key] if at > begin + 65 * DAY]
            if state != "bargain":
                soon += ["coupon" in order for at, order in orders[key] if begin - 50 * DAY < at < begin]
                long_before += ["coupon" in order for at, order in orders[key] if at < begin - 50 * DAY]
        assert after < 0.3 * len(lapsing)
        assert mean(soon) > 0.5 > 0.2 > mean(long_before)

    def test_returners_send_everything_back(
        self, by_customer: dict[str, Happenings], orders: dict[str, Happenings]
    ) -> None:
        for key, state in planted_states().items():
            if state == "returner":
                back = {
                    happened["data"]["order_id"]
                    for _, happened in by_customer[key]
                    if happened["type"] in ("purchase.order_refunded", "purchase.order_cancelled")
                }
                early = {order["order_id"] for at, order in orders[key] if at < START_MS + (DAYS - 11) * DAY}
                assert early <= back

    def test_whoever_tells_who_they_are_links_every_device(self, shop: Shop) -> None:
        keys = planted_states()
        assert len(keys) == CUSTOMERS == shop.summary.customers
        assert sum(key.startswith("u:") for key in keys) == shop.summary.known
        assert shop.summary.links > shop.summary.known  # some have two devices

    def test_carts_are_left_and_some_come_back_to_theirs_after_an_hour(
        self, by_customer: dict[str, Happenings]
    ) -> None:
        left = later = 0
        for happenings in by_customer.values():
            added: int | None = None
            for at, happened in happenings:
                if happened["type"] == "cart.product_added":
                    added = at
                elif happened["type"] == "purchase.order_completed" and added is not None:
                    later += at - added > 3_600_000
                    added = None
            left += added is not None
        assert left > 100
        assert later > 100


class TestWhatThereIsToLearn:
    def test_orders_that_came_in_time_and_that_did_not_are_known_after_three_months(
        self, orders: dict[str, Happenings]
    ) -> None:
        """As the weekly look at whoever has bought twice and not long ago: does an order follow within 30 days?"""
        came: Counter[bool] = Counter()
        for bought in orders.values():
            times = [at for at, _ in bought]
            for week in range(1, DAYS // 7):
                look = times[0] + week * 7 * DAY if times else START_MS + DAYS * DAY
                past = [at for at in times if at <= look]
                if look + 30 * DAY <= START_MS + 100 * DAY and len(past) > 1 and look - past[-1] <= 60 * DAY:
                    came[any(look < at <= look + 30 * DAY for at in times)] += 1
        assert came.total() > 1_500
        assert min(came.values()) > 150

    def test_who_buys_looks_longer_and_at_one_item_again(self, by_customer: dict[str, Happenings]) -> None:
        again: dict[bool, list[int]] = {True: [], False: []}
        for happenings in by_customer.values():
            views: Counter[str] = Counter()
            last, buys = 0, False
            for at, happened in happenings:
                if at - last > 30 * MINUTE and views:
                    again[buys].append(max(views.values()))
                    views, buys = Counter(), False
                if happened["type"] == "click.product_viewed":
                    views[happened["data"]["item"]["item_id"]] += 1
                    last = at
                elif happened["type"] == "purchase.order_completed":
                    buys = True
        assert min(map(len, again.values())) > 1_500
        assert mean(again[True]) > mean(again[False]) + 0.2

    def test_what_goes_together_is_bought_together(self, orders: dict[str, Happenings]) -> None:
        baskets = [{line["item_id"] for line in order["items"]} for bought in orders.values() for _, order in bought]
        items = Counter(item for basket in baskets for item in basket)
        pairs = Counter(pair for basket in baskets for pair in combinations(sorted(basket), 2))
        for first, second in BUNDLES:
            together = pairs[min(first, second), max(first, second)]
            assert together >= 20
            assert together / len(baskets) > 0.005
            assert together * len(baskets) / (items[first] * items[second]) > 4

    def test_regulars_buy_their_favourites_again(self, orders: dict[str, Happenings]) -> None:
        again = lines = 0
        for key, state in planted_states().items():
            owned: set[str] = set()
            for number, (_, order) in enumerate(orders[key] if state in REGULARS else ()):
                items = {line["item_id"] for line in order["items"]}
                if number > 4:
                    again, lines = again + len(items & owned), lines + len(items)
                owned |= items
        assert lines > 1_000
        assert 0.55 < again / lines < 0.8

    def test_the_catalogue_is_that_of_a_small_shop(self, shop: Shop) -> None:
        items = {}
        for record in shop.records:
            happened = event(record)
            if happened is not None and happened["type"] == "click.product_viewed":
                item = happened["data"]["item"]
                items[item["item_id"]] = (item["category"], item["brand"], item["unit_price_minor"])
        assert 120 <= len(items) <= 200
        assert len({category for category, _, _ in items.values()}) == 12
        assert len({brand for _, brand, _ in items.values()}) == 5
        assert {item for bundle in BUNDLES for item in bundle} <= set(items)

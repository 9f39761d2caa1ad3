"""The fold: given the same journal partition, the same records and triggers, byte for byte.

``fold`` applies one page to a ``Shard``, the working copy of one journal
partition. Nothing here reads a clock, chance or a network; the live engine,
``replay`` and ``verify`` all run exactly this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from journey import adoptions, journeys, learning, stages
from journey import aggregates as agg
from journey.entries import Entry, encode
from journey.errors import PositionGapError, StateError
from journey.events import CLASS_OF, DAY, LATE_AFTER
from journey.positions import entry_position
from journey.samples import CHURN_EVERY, JOURNAL, SAMPLE_VERSION, SCHEMA_OF, Sample
from journey.scoring import ALL_CAN_BE_HAD, Classifier, Declares, Library, Loaded, Ranker, Segmenter
from journey.state import (
    Customer,
    Partition,
    new_customer,
    new_partition,
    partition_key,
    read_customer,
    read_partition,
)
from journey.timers import Agenda
from journey.triggers import Cause, Trigger, segment_changed, stage_changed

Read = Callable[[bytes], bytes | None]

VIEWS: Final = frozenset(("click.product_viewed", "click.product_clicked"))
CART_CHANGES: Final = frozenset(("cart.product_added", "cart.product_removed", "cart.cart_updated"))
MOST_REASONS: Final = 3
SECOND_ORDER: Final = 2
CART_ADDED: Final = "cart.product_added"

_SOURCES: Final[dict[str, dict[int, str]]] = {}  # names of source partitions: there are few, and each entry has one


class PoisonError(Exception):
    """The fold raised on one entry. It is skipped, with an alarm; all else is folded as if it were not there."""

    def __init__(self, offset: int, index: int, error: Exception) -> None:
        self.offset, self.index, self.error = offset, index, error
        # its words may hold what the entry holds; the dead letter has them
        super().__init__(f"entry {index} of page {offset}: {type(error).__name__}")


class Shard:
    """The working copy of one journal partition: its record, its agenda, and who was touched since the last write.

    ``read(key)`` gives a stored record's bytes, or None. Built from what is
    stored, so that a worker that starts and one that never stopped go on
    alike. ``library`` has the snapshots and configurations that the partition
    and its entries name, ``journal`` is what samples call their source.

    Raises
    ------
    MissingModelError
        What is in force is not in the library.
    """

    def __init__(
        self,
        partition: int,
        read: Read,
        stored: Iterable[tuple[bytes, bytes]],
        library: Library | None = None,
        journal: str = JOURNAL,
    ) -> None:
        self.number, self.read = partition, read
        raw = read(partition_key(partition))
        self.partition: Partition = new_partition() if raw is None else read_partition(raw, partition)
        self.library = Library() if library is None else library
        self.journal = journal
        self.models: dict[str, Loaded] = {}
        self.declared: Declares | None = None
        self.unavailable: frozenset[str] = ALL_CAN_BE_HAD
        self.take_models()
        self.samples: list[tuple[str, Sample]] = []  # with the customer, whom the sample itself does not name
        self.agenda = Agenda()
        self.take_timers(stored)
        self.touched: dict[str, Customer] = {}
        self.triggers: list[Trigger] = []
        self.poisoned: set[tuple[int, int]] = set()
        # for metrics alone, never part of the state: a crash folds some pages twice
        self.counts = {"events": 0, "repeats": 0, "duplicates": 0, "timers": 0, "failed_timers": 0, "adopted": 0}

    def take_timers(self, stored: Iterable[tuple[bytes, bytes]]) -> None:
        """Note the timers of stored records: what there is of millions may come in parts, before anything is folded."""
        note = self.agenda.note
        for key, value in stored:
            if not key.startswith(b"\0"):
                note(read_customer(value))

    def take_models(self) -> None:
        """Look up what the partition record says is in force."""
        adopted = self.partition["models"]
        self.models = {slot: self.library.get(*adopted[slot]) for slot in sorted(adopted)}
        config = self.partition["config"]
        self.declared = None if config is None else self.library.config(config)
        self.unavailable = ALL_CAN_BE_HAD if self.declared is None else self.declared.unavailable

    def customer(self, key: str) -> Customer | None:
        """Return a customer's working copy, or None for somebody new."""
        known = self.touched.get(key)
        if known is not None:
            return known
        raw = self.read(key.encode())
        return None if raw is None else read_customer(raw)

    def changes(self) -> list[tuple[bytes, bytes]]:
        """Return what to write as (key, canonical bytes); the partition record is always the last."""
        return [(key.encode(), encode(customer)) for key, customer in self.touched.items()] + [
            (partition_key(self.number), encode(self.partition))
        ]

    def written(self) -> None:
        """Forget what was folded since the last write: it is durable now."""
        self.touched, self.triggers, self.samples = {}, [], []


def fold(shard: Shard, offset: int, page: list[Entry]) -> None:
    """Apply the page at this journal offset.

    A page at or below the last one folded is left alone. Customers whose
    record already reflects it (a crash came between two writes) are left
    alone, while time and everybody else move on.

    Raises
    ------
    PositionGapError
        Not the page after the last one.
    PoisonError
        An entry that nobody can fold; the shard is void then and has to be
        built anew, with the entry in ``poisoned``.
    """
    partition = shard.partition
    if offset <= partition["at"]:
        return
    if offset != partition["at"] + 1:
        log = f"journal partition {shard.number}"
        raise PositionGapError(log=log, found=offset, expected=partition["at"] + 1)
    step = _Step(shard, offset)
    applied, counts, poisoned = partition["applied"], shard.counts, shard.poisoned
    for index, entry in enumerate(page):
        # before anything of it is read: what is wrong with it may be anywhere
        if poisoned and (offset, index) in poisoned:
            continue
        try:
            src = entry.get("src")
            if src is not None:
                names = _SOURCES.get(src[0])
                if names is None:
                    names = _SOURCES[src[0]] = {}
                source = names.get(src[1])
                if source is None:
                    source = names[src[1]] = f"{src[0]}/{src[1]}"
                if src[2] <= applied.get(source, -1):
                    counts["repeats"] += 1
                    continue
                applied[source] = src[2]
            kind = entry["k"]
            if kind == "void":
                continue
            step.index, step.told = index, 0
            now = entry["at"]
            if now > partition["now"]:
                partition["now"] = now
                if shard.agenda.first() <= now:
                    step.fire(now)
            else:
                now = partition["now"]
            if kind == "event":
                counts["events"] += 1
                step.event(entry, now)
            elif kind == "adopt":
                if adoptions.apply(partition["models"], entry):
                    counts["adopted"] += 1
                    shard.take_models()
            elif kind == "config":
                partition["config"] = entry["sha256"]
                shard.take_models()
            elif kind == "clock":
                _set_clock(partition, entry)
        except (StateError, MemoryError):
            raise
        except Exception as error:
            raise PoisonError(offset, index, error) from error
    step.finish()
    partition["at"] = offset


def _set_clock(partition: Partition, entry: Entry) -> None:
    """``events`` only as the first entry of a journal; ``wall`` at any time, for ever."""
    is_first = partition["at"] == -1 and partition["now"] == entry["at"] and len(partition["applied"]) == 1
    if entry["clock"] == "wall":
        partition["clock"] = "wall"
    elif entry["clock"] == "events" and is_first:
        partition["clock"] = "events"


class _Step:
    """One page in the making: who is changed by it, and who already reflects it."""

    def __init__(self, shard: Shard, offset: int) -> None:
        self.shard, self.offset = shard, offset
        self.index = self.told = 0  # the entry, and how many samples it has caused
        self.mine: dict[str, Customer] = {}
        self.ahead: dict[str, Customer] = {}

    def fire(self, now: int) -> None:
        """Fire all timers due at ``now``, in the order (due time, customer)."""
        agenda = self.shard.agenda
        while (key := agenda.pop(now)) is not None:
            customer = self._take(key)
            if customer is None:
                continue
            timers = customer["timers"]
            while timers:
                due, name = min((at, name) for name, at in timers.items())
                if due > now:
                    break
                self.shard.counts["timers"] += 1
                self._timer(customer, name, due, now)
                # others may be due before this customer's next: the order is over all customers
                if agenda.first() <= now:
                    break
            agenda.note(customer)

    def _timer(self, customer: Customer, name: str, due: int, now: int) -> None:
        try:
            if name == stages.TIMER:
                model = self.shard.models.get("churn")
                evidence = model.evidence() if isinstance(model, Classifier) else stages.NO_EVIDENCE
                move = stages.on_timer(customer, now, evidence)
                if move is not None:
                    self._tell(customer, move, now, None, due)
            elif name == learning.SCORE:
                self._score(customer, now, due)
            elif name == learning.LABEL:
                for label in learning.labels(customer, now):
                    self._sample(customer, "churn", "label", now, label)
            elif name == learning.VISIT:
                for label in learning.visit_labels(customer, now):
                    self._sample(customer, "intent", "label", now, label)
            elif name == learning.SEGMENT:
                looked = customer["segment"]["looks"]
                self._assign(customer, now, None, due)
                learning.look_again(customer, now, looked + 1)
            else:
                recs = self.shard.models.get("recs")
                ranker = recs if isinstance(recs, Ranker) else None
                trigger = journeys.on_timer(customer, now, ranker, self.shard.unavailable)
                if trigger is not None:
                    self.shard.triggers.append(trigger)
        except (StateError, MemoryError):
            raise
        except Exception:
            # not the fault of the entry that is passing by, nor of those after it: without this timer they all go on
            customer["timers"].pop(name, None)
            self.shard.counts["failed_timers"] += 1

    def _sample(self, customer: Customer, family: str, kind: str, now: int, body: dict[str, Any]) -> None:
        """Tell a family's learner; the number in the entry is part of the position."""
        shard = self.shard
        src = [shard.journal, shard.number, entry_position(self.offset, self.index), self.told]
        self.told += 1
        body |= {
            "v": SAMPLE_VERSION, "model": family, "kind": kind, "src": src, "schema": SCHEMA_OF[family], "at": now,
        }  # fmt: skip
        shard.samples.append((customer["key"], body))

    def _score(self, customer: Customer, now: int, due: int) -> None:
        """The weekly look at a buyer: score churn, and let lifetime value see the buyer."""
        timers = customer["timers"]
        del timers[learning.SCORE]
        scores = customer.get("scores")
        if learning.is_scored(customer, now):
            row = learning.churn_row(customer, now)
            p, q, version = self._ask("churn", customer, row, now)
            learning.wait(customer, now, row, p, q, version)
        elif scores is not None:
            scores.pop("churn", None)
        self._sample(customer, "value", "observe", now, {"x": learning.value_row(customer, now)})
        if learning.is_counted(customer, now):
            timers[learning.SCORE] = due + ((now - due) // CHURN_EVERY + 1) * CHURN_EVERY

    def _ask(
        self, slot: str, customer: Customer, row: list[float], now: int
    ) -> tuple[float | None, float | None, int | None]:
        """Score a row with what is in force, and note it; a model below ``trusted`` abstains."""
        scores = customer.get("scores")
        if scores is None:
            scores = customer["scores"] = {}
        model = self.shard.models.get(slot)
        if not isinstance(model, Classifier):
            scores[slot] = [None, 0, 0, now]
            return None, None, None
        p, q = model.ask(row)
        scores[slot] = [p if model.is_trusted else None, model.version, model.labels, now]
        return p, q, model.version

    def _assign(self, customer: Customer, now: int, cause: Cause | None, due: int) -> None:
        """Look which segment a customer is in, and tell when it is another."""
        model = self.shard.models.get("segments")
        segmenter = model if isinstance(model, Segmenter) else self.shard.library.prototypes
        change = learning.assign(customer, segmenter, now)
        if change is not None and segmenter.is_trusted and "historical" not in customer:
            before, after, text, facts = change
            self.shard.triggers.append(segment_changed(customer["key"], now, (before, after), text, facts, cause, due))

    def _learn_from(
        self, customer: Customer, cls: str, entry: Entry, now: int, happened: int, *, is_view: bool, is_cart: bool
    ) -> None:
        """After an event of a visit was folded: ask what the visit intends, and where the customer belongs."""
        if cls != "purchase":
            item = (entry.get("d") or {}).get("item")
            if learning.on_visit(customer, happened, is_view=is_view, is_cart=is_cart, item=item):
                row = learning.intent_row(customer, happened)
                p, q, version = self._ask("intent", customer, row, now)
                learning.wait_for_visit(customer, now, happened, row, p, q, version)
        if learning.is_observed(customer):
            self._sample(customer, "segments", "observe", now, {"x": learning.segment_row(customer, now)})
            self._assign(customer, now, Cause(entry["id"], entry["t"], entry["src"]), 0)
            learning.look_again(customer, now, 0)

    def _ordered(self, customer: Customer, happened: int, data: dict[str, Any], now: int) -> None:
        """Before a new order is folded into the customer's tastes: what would have been recommended."""
        items = data.get("items")
        if not items:
            return
        profile = learning.profile_at(customer.get("profile", {}), now)
        model = self.shard.models.get("recs")
        top, version = None, None
        if isinstance(model, Ranker):
            top, version = [one.item for one in model.recommend(profile, (), self.shard.unavailable)], model.version
        facts = {item["item_id"]: item for item in items}
        body = {
            "items": [
                [name, facts[name].get("category"), facts[name].get("brand"), facts[name].get("unit_price_minor")]
                for name in sorted(facts)
            ],
            "profile": [[name, learning.rounded(profile[name])] for name in sorted(profile)],
            "top": top, "model_version": version, "happened": happened,
        }  # fmt: skip
        self._sample(customer, "recs", "observe", now, body)

    def _take(self, key: str, now: int | None = None) -> Customer | None:
        """Return the customer to change, stamped with this page; None when its record already reflects the page."""
        customer = self.mine.get(key)
        if customer is not None:
            return customer
        if key in self.ahead:
            return None
        customer = self.shard.customer(key)
        if customer is None:
            if now is None:
                return None
            customer = new_customer(key, now)
        elif customer["at"] >= self.offset:
            self.ahead[key] = customer
            return None
        customer["at"] = self.offset
        self.mine[key] = self.shard.touched[key] = customer
        return customer

    def event(self, entry: Entry, now: int) -> None:
        """Apply one event to its customer."""
        customer = self._take(entry["c"], now)
        if customer is None:
            return
        message_id = entry["id"]
        if agg.is_repeat(customer, message_id, now):
            customer["duplicates"] = customer.get("duplicates", 0) + 1
            self.shard.counts["duplicates"] += 1
            return
        type_, happened = entry["t"], entry["oc"]
        data = entry.get("d") or {}
        historical = "h" in entry and bool(entry["h"])
        customer["seen"] = now
        if historical:
            customer["historical"] = True
        elif "historical" in customer:
            del customer["historical"]
        counts = customer.get("counts")
        if counts is None:
            customer["counts"] = {type_: 1}
            customer["first"] = customer["last"] = happened
        else:
            counts[type_] = counts.get(type_, 0) + 1
            if happened > customer["last"]:
                customer["last"] = happened
            elif happened < customer["first"]:
                customer["first"] = happened
        if "an" in entry:
            agg.know_as(customer, entry["an"])
        new_order = advocates = signs_up = False
        if "x" in entry and (consent := entry["x"].get("consent")):
            agg.set_consent(customer, happened, consent)
            signs_up = agg.GRANTED in consent.values()
        timers = customer["timers"].copy()
        cls = CLASS_OF.get(type_)
        is_view = False
        if cls == "click":
            is_view = type_ in VIEWS
            agg.visit(customer, happened, is_view=is_view)
            advocates = _click(customer, type_, happened, data, now)
        elif cls == "cart":
            agg.visit(customer, happened, is_view=False)
            _cart(customer, type_, happened, data, now)
        elif cls == "purchase":
            agg.visit(customer, happened, is_view=False)
            new_order = self._purchase(customer, type_, happened, data, now)
        elif cls == "profile":
            signs_up |= _profile(customer, type_, happened, data)
        else:
            advocates = _feedback(customer, type_, happened, data)
        if counts is None:
            self._tell(customer, stages.first_move(customer), now, Cause(message_id, type_, entry["src"]), 0)
        if cls == "click" or cls == "cart" or cls == "purchase":
            self._learn_from(customer, cls, entry, now, happened, is_view=is_view, is_cart=type_ == CART_ADDED)
        move = stages.on_event(customer, cls, now, new_order=new_order, advocates=advocates, signs_up=signs_up)
        if move is not None:
            self._tell(customer, move, now, Cause(message_id, type_, entry["src"]), 0)
        if (cls == "cart" or "runs" in customer) and not historical:
            cause, may_enter = Cause(message_id, type_, entry["src"]), now - happened <= LATE_AFTER
            journeys.on_event(customer, cause, now, new_order=new_order, may_enter=may_enter)
        if customer["timers"] != timers:
            self.shard.agenda.note(customer)

    def _purchase(self, customer: Customer, type_: str, happened: int, data: dict[str, Any], now: int) -> bool:
        orders = customer.get("orders")
        order = None if orders is None else orders["book"].get(data["order_id"])
        before = 0.0 if order is None else learning.worth(order)
        new_order = agg.apply_order(customer, type_[9:], happened, data)
        order = customer["orders"]["book"].get(data["order_id"])  # none: so old that the book has no place for it
        if new_order:
            self._ordered(customer, happened, data, now)
            gap = learning.on_order(customer, happened, data, 0.0 if order is None else learning.worth(order))
            if gap is not None and customer["rhythm"]["n"] == SECOND_ORDER:
                self._sample(customer, "churn", "observe", now, {"x": [learning.rounded(gap)]})
            agg.close_cart(customer, happened)
            for item in data.get("items") or ():
                agg.note_item(customer, happened, "buy", item)
        elif order is not None:
            learning.on_worth(customer, order, before)
        return new_order

    def _tell(self, customer: Customer, move: stages.Move, now: int, cause: Cause | None, due: int) -> None:
        """Say that a stage changed, but of history."""
        if "historical" not in customer:
            change = (move.before, move.after)
            scores = self._explained(customer) if move.is_scored else []
            self.shard.triggers.append(
                stage_changed(customer["key"], now, change, move.text, move.facts, cause, due, scores)
            )

    def _explained(self, customer: Customer) -> list[dict[str, Any]]:
        """Return the churn score a move rests on, with what weighed most in it."""
        model = self.shard.models.get("churn")
        if not isinstance(model, Classifier) or "waiting" not in customer:
            return []
        parts = model.contributions(customer["waiting"][-1][1])[:MOST_REASONS]
        value, version = customer["scores"]["churn"][:2]
        told = {name: learning.rounded(part) for name, part in parts}
        return [{"model": "churn", "version": version, "value": value, "contributions": told}]

    def finish(self) -> None:
        """Give those who were left alone their timers back: their due times were forgotten when they came up."""
        for customer in self.ahead.values():
            self.shard.agenda.note(customer)


def _click(customer: Customer, type_: str, happened: int, data: dict[str, Any], now: int) -> bool:
    agg.decay(customer, "click_30d", 30, happened)
    item = data.get("item")
    if item is not None:
        name = item["item_id"]
        if type_ in VIEWS:
            if agg.is_in_cart(customer, name) or agg.is_seen_again(customer, name, happened):
                customer["evaluated"] = now
            agg.note_item(customer, happened, "view", item)
        elif type_ == "click.product_added_to_wishlist":
            customer["evaluated"] = now
            agg.note_item(customer, happened, "wish", item)
    if type_ == "click.custom" and "orders" in customer and "first" in customer["orders"]:
        day = happened // DAY
        first = customer["orders"]["first"]
        used = customer.setdefault("use_days", [])
        if 0 <= happened - first <= 14 * DAY and day not in used and len(used) < 3:
            used.append(day)
            used.sort()
    return type_ == "click.product_reviewed" and (data.get("rating") or 0) >= 4


def _cart(customer: Customer, type_: str, happened: int, data: dict[str, Any], now: int) -> None:
    agg.decay(customer, "cart_30d", 30, happened)
    customer["evaluated"] = now
    if type_ == "cart.product_added":
        agg.note_item(customer, happened, "cart", data["item"])
    cart = agg.open_cart(customer, data.get("cart_id"), happened, changes=type_ in CART_CHANGES)
    if cart is None:
        return
    if happened >= cart["last"]:
        cart["last"] = happened
        if data.get("currency"):
            cart["currency"] = data["currency"]
    elif data.get("currency"):
        cart.setdefault("currency", data["currency"])
    if type_ == "cart.product_added":
        agg.change_line(cart, happened, data["item"], data["item"].get("quantity", 1))
    elif type_ == "cart.product_removed":
        agg.change_line(cart, happened, data["item"], -data["item"].get("quantity", 1))
    elif type_ == "cart.cart_updated":
        agg.replace_lines(cart, happened, data["items"])


def _profile(customer: Customer, type_: str, happened: int, data: dict[str, Any]) -> bool:
    """Apply what somebody says of themselves; return True for a sign-up or a consent."""
    if type_ == "profile.identify":
        agg.set_traits(customer, happened, data.get("traits") or {})
        return True
    if type_ == "profile.consent":
        agg.set_consent(customer, happened, data["scopes"])
        return agg.GRANTED in data["scopes"].values()
    return False


def _feedback(customer: Customer, type_: str, happened: int, data: dict[str, Any]) -> bool:
    if type_ in ("feedback.unsubscribed", "feedback.complaint"):
        scope = data.get("scope") or f"marketing.{data['channel']}"
        agg.set_consent(customer, happened, {scope: "revoked"})
    if type_ != "feedback.satisfaction":
        return False
    low, high = data["scale"]
    return bool((data["score"] - low) * 10 >= 9 * (high - low))

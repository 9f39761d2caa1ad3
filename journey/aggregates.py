"""Stored summaries of what a customer did: constant size, one event at a time.

Each names its order law: *any* (late and repeated arrival gives the same
bytes), or what it depends on. ``journey.features`` repeats it for readers.
"""

from __future__ import annotations

from bisect import insort
from typing import Any, Final

from journey.entries import encode
from journey.events import DAY, GREATEST, HOUR, SESSION_GAP
from journey.ids import SEEN_ID_LENGTH, seen_id
from journey.state import Customer

REMEMBER_HOURS: Final = 24
MOST_REMEMBERED: Final = 512
MOST_ITEMS: Final = 20
MOST_CATEGORIES: Final = 8
MOST_LINES: Final = 50
MOST_CHANGES: Final = 4  # of a cart's line that can still be put in order
MOST_ORDERS: Final = 16
MOST_ANONYMOUS_IDS: Final = 50
MOST_TRAITS: Final = 256
MOST_TRAIT_BYTES: Final = 32_768  # of all traits of a customer: a record has to fit into a batch
MOST_SCOPES: Final = 32
MOST_STARTS: Final = 8
CART_CLOSES_AFTER: Final = 30 * DAY
SAME_ITEM_WITHIN: Final = 7 * DAY
NUMBERED: Final = "auto-"  # begins the ids of carts that have none
NO_CURRENCY: Final = "XXX"  # ISO 4217: no currency was told
GRANTED: Final = "granted"
_STRENGTH: Final = {GRANTED: 0, "denied": 1, "revoked": 2}
_YEAR_2020: Final = 1_577_836_800_000


# ---- duplicates: 24 h of journal time, 512 for each customer -------------------------------------------------------


# ``ids`` is [hashes of all that is remembered, oldest first, as one text; hour, how many of it; hour, how many; ...]:
# one search finds an id


def is_repeat(customer: Customer, message_id: str, now: int) -> bool:
    """Tell whether this message id was seen before, and remember it.

    Remembered for at least 24 and at most 25 hours of journal time (whole
    hours are dropped), the newest 512 of a customer, each as eight bytes.
    """
    wanted, hour = seen_id(message_id), now // HOUR
    ids = customer.get("ids")
    if ids is None:
        customer["ids"] = [wanted, hour, 1]
        return False
    if ids[1] < hour - REMEMBER_HOURS:
        while len(ids) > 1 and ids[1] < hour - REMEMBER_HOURS:
            ids[0] = ids[0][ids[2] * SEEN_ID_LENGTH :]
            del ids[1:3]
    known = ids[0]
    found = known.find(wanted)
    while found >= 0:
        if found % SEEN_ID_LENGTH == 0:
            return True
        found = known.find(wanted, found + 1)
    ids[0] = known + wanted
    if len(ids) > 1 and ids[-2] == hour:
        ids[-1] += 1
    else:
        ids += (hour, 1)
    if len(known) >= MOST_REMEMBERED * SEEN_ID_LENGTH:
        ids[0] = ids[0][SEEN_ID_LENGTH:]
        ids[2] -= 1
        if not ids[2]:
            del ids[1:3]
    return False


# ---- decayed sums: order changes the last bits only (1e-12 of the value) -------------------------------------------


def weight(at: int, half_life_days: int) -> float:
    """Return the forward-decay weight of a moment, 2 to the power of (days since 2020 / half-life).

    References
    ----------
    Cormode et al. (2009), "Forward decay: a practical time decay model for streaming systems", ICDE.
    """
    return float(2.0 ** ((at - _YEAR_2020) / (DAY * half_life_days)))


def decay(customer: Customer, name: str, half_life_days: int, happened: int, amount: float = 1.0) -> None:
    """Add an amount that halves every ``half_life_days``, counted from when it happened."""
    sums = customer.get("decayed")
    if sums is None:
        sums = customer["decayed"] = {}
    sums[name] = sums.get(name, 0.0) + amount * weight(happened, half_life_days)


def decayed(customer: Customer, name: str, half_life_days: int, now: int) -> float:
    """Return what is left of a decayed sum at a moment."""
    return customer.get("decayed", {}).get(name, 0.0) / weight(now, half_life_days)


# ---- sessions: 30 minutes of silence, event time --------------------------------------------------------------------


def visit(customer: Customer, happened: int, *, is_view: bool) -> None:
    """Count an event into its session. Exactly 30 minutes of silence do not end one.

    Order law: any order of events that are at most 30 minutes apart. One
    from before the current session, which came later, starts no session of
    its own.
    """
    session = customer.get("session")
    if session is None or happened > session["last"] + SESSION_GAP:
        starts = ([] if session is None else session["starts"]) + [happened]
        customer["session"] = {
            "count": 1 if session is None else session["count"] + 1,
            "start": happened, "last": happened, "events": 1, "views": int(is_view), "starts": starts[-MOST_STARTS:],
        }  # fmt: skip
    elif happened >= session["start"] - SESSION_GAP:
        session["events"] += 1
        session["views"] += is_view
        if happened < session["start"]:
            session["start"] = session["starts"][-1] = happened
        elif happened > session["last"]:
            session["last"] = happened


# ---- recent items and categories: any order -------------------------------------------------------------------------

# Each is one text that sorts by time: 13 digits of occurred_at (enough for 2000 to 2286), then what was done, then the
# item. A list of parts would take four times as long to read and write.
_DIGITS: Final = 13
_WHAT: Final = {"buy": "b", "cart": "c", "view": "v", "wish": "w"}
_WHAT_OF: Final = {letter: what for what, letter in _WHAT.items()}


def note_item(customer: Customer, happened: int, what: str, item: dict[str, Any]) -> None:
    """Remember a look at an item, or what else was done with it: the newest 20, and the newest 8 categories."""
    at = str(happened).rjust(_DIGITS, "0")
    items = customer.get("items")
    if items is None:
        items = customer["items"] = []
    insort(items, at + _WHAT[what] + item["item_id"])
    if len(items) > MOST_ITEMS:
        del items[0]
    category = item.get("category")
    if category:
        kept = customer.get("categories")
        if kept is None:
            kept = customer["categories"] = []
        for known in kept:
            if known[_DIGITS:] == category:
                if at > known[:_DIGITS]:
                    kept.remove(known)
                    insort(kept, at + category)
                return
        insort(kept, at + category)
        if len(kept) > MOST_CATEGORIES:
            del kept[0]


def recent_items(customer: Customer) -> list[tuple[int, str, str]]:
    """Return the remembered items as (occurred_at, what was done, item), oldest first."""
    return [(int(one[:_DIGITS]), _WHAT_OF[one[_DIGITS]], one[_DIGITS + 1 :]) for one in customer.get("items", ())]


def recent_categories(customer: Customer) -> list[tuple[int, str]]:
    """Return the remembered categories as (occurred_at of the last item of it, category), oldest first."""
    return [(int(one[:_DIGITS]), one[_DIGITS:]) for one in customer.get("categories", ())]


def is_seen_again(customer: Customer, item_id: str, happened: int) -> bool:
    """Tell whether something was done with an item in an earlier session, at most seven days ago."""
    items = customer.get("items")
    if items is None:
        return False
    for one in items:
        if one[_DIGITS + 1 :] == item_id:
            at = int(one[:_DIGITS])
            if happened - SAME_ITEM_WITHIN <= at < customer["session"]["start"]:
                return True
    return False


# ---- cart: any order, of carts one after another, as long as not five later changes of its line overtake an event ----

# A line is [base quantity, base price, *changes], a change is [occurred_at, by how much, unit price]; older changes are
# in the base. The changes are kept by time, so that what was overtaken still takes its own place: something taken out
# before we hear that it was put in, something put in before an order that we hear of late.


def open_cart(customer: Customer, cart_id: str | None, happened: int, *, changes: bool) -> dict[str, Any] | None:
    """Return the cart that an event belongs to, or None when it belongs to one that is over, or to none.

    An order, 30 quiet days or another id close a cart; only an event that
    ``changes`` what lies in it opens the next. Carts without an id are
    numbered; an id that is told later becomes theirs.
    """
    cart = customer.get("cart")
    if cart is None:
        number, since = 1, customer.get("orders", {}).get("last", 0)
        if happened <= since:
            return None
    else:
        since = cart["since"]
        if happened <= since:
            return None
        if not cart.get("closed"):
            known = cart["id"]
            is_other = cart_id is not None and cart_id != known and not known.startswith(NUMBERED)
            if not is_other and happened - cart["last"] <= CART_CLOSES_AFTER:
                if cart_id is not None:
                    cart["id"] = cart_id
                return cart
            if is_other and happened <= cart["last"]:
                return None
            if not is_other:
                since = cart["last"]
        number = cart["number"] + 1
    if not changes:
        return None
    customer["cart"] = cart = {
        "id": cart_id or f"{NUMBERED}{number}", "number": number, "lines": {}, "since": since, "last": happened,
    }  # fmt: skip
    return cart


def change_line(cart: dict[str, Any], happened: int, item: dict[str, Any], quantity: int) -> None:
    """Add to (or, negative, take from) a line."""
    lines = cart["lines"]
    name = item["item_id"]
    line = lines.get(name)
    change = [happened, quantity, item.get("unit_price_minor")]
    if line is None:
        lines[name] = [0, None, change]
        _trim(cart)
        return
    if len(line) == 2 or happened > line[-1][0]:
        line.append(change)
    else:
        line[2:] = sorted([*line[2:], change], key=_in_order)
    if len(line) > 2 + MOST_CHANGES:
        _, quantity, price = line.pop(2)
        line[0] = min(max(0, line[0] + quantity), GREATEST)
        line[1] = line[1] if price is None else price


def _in_order(change: list[Any]) -> tuple[int, int, int]:
    """Changes of one moment: additions first, so that nothing is taken out of an empty line."""
    happened, quantity, price = change
    return happened, -quantity, -1 if price is None else price


def _quantity(line: list[Any]) -> int:
    """Return how much is in a line; taking out what is not there leaves nothing."""
    quantity: int = line[0]
    for change in line[2:]:
        quantity += change[1]
        if quantity < 0:
            quantity = 0
    return min(quantity, GREATEST)


def _price(line: list[Any]) -> int | None:
    """Return the unit price that was told last."""
    for change in line[:1:-1]:
        if change[2] is not None:
            return int(change[2])
    price: int | None = line[1]
    return price


def _trim(cart: dict[str, Any]) -> None:
    """Keep 50 lines: empty ones go first, then those that changed longest ago."""
    lines = cart["lines"]
    if len(lines) > MOST_LINES:
        by_worth = sorted(lines, key=lambda name: (_quantity(lines[name]) > 0, _changed(lines[name]), name))
        for name in by_worth[: len(lines) - MOST_LINES]:
            del lines[name]


def _changed(line: list[Any]) -> int:
    return int(line[-1][0]) if len(line) > 2 else 0


def _void(cart: dict[str, Any], happened: int) -> dict[str, list[Any]]:
    """Forget what happened to the lines up to a moment; return the lines that changed later."""
    cart["since"] = happened
    lines: dict[str, list[Any]] = {}
    for name, line in cart["lines"].items():
        if changes := [change for change in line[2:] if change[0] > happened]:
            lines[name] = [0, None, *changes]
    cart["lines"] = lines
    return lines


def replace_lines(cart: dict[str, Any], happened: int, items: list[dict[str, Any]]) -> None:
    """Set the whole cart as of a moment; what happened earlier is void, later changes stay."""
    lines = _void(cart, happened)
    for item in items:
        line = lines.setdefault(item["item_id"], [0, None])
        line[0] = min(line[0] + item.get("quantity", 1), GREATEST)
        line[1] = item.get("unit_price_minor", line[1])
    _trim(cart)


def close_cart(customer: Customer, happened: int) -> None:
    """An order takes what was in the cart before it; what was put in later is the next cart."""
    cart = customer.get("cart")
    if cart is None or happened < cart["since"]:
        return
    before = cart["lines"]
    left = _void(cart, happened)
    if not left:
        cart["closed"] = True
    elif left != before and cart["id"].startswith(NUMBERED):
        cart["number"] += 1
        cart["id"] = f"{NUMBERED}{cart['number']}"


def is_in_cart(customer: Customer, item_id: str) -> bool:
    """Tell whether an item lies in the cart."""
    cart = customer.get("cart")
    line = None if cart is None else cart["lines"].get(item_id)
    return line is not None and _quantity(line) > 0


def cart_lines(customer: Customer) -> list[tuple[str, int, int | None]]:
    """Return what lies in the cart as (item, quantity, unit price in minor units), by item."""
    cart = customer.get("cart")
    if cart is None:
        return []
    lines = cart["lines"]
    return [(name, quantity, _price(lines[name])) for name in sorted(lines) if (quantity := _quantity(lines[name])) > 0]


def cart_value(customer: Customer) -> int | None:
    """Return the worth of the cart in minor units; None when a price was not told."""
    total = 0
    for _, quantity, price in cart_lines(customer):
        if price is None:
            return None
        total += quantity * price
    return min(total, GREATEST)


# ---- orders: any order, for the newest 16; of an order completed twice the message that came first counts ------------


def new_orders() -> dict[str, Any]:
    """Return the summary of nobody's orders."""
    return {"completed": 0, "cancelled": 0, "refunded": 0, "revenue": {}, "refunds": {}, "book": {}}


def _order(orders: dict[str, Any], order_id: str, happened: int) -> dict[str, Any]:
    book = orders["book"]
    order: dict[str, Any] | None = book.get(order_id)
    if order is None:
        book[order_id] = order = {"touched": happened}
        if len(book) > MOST_ORDERS:
            del book[min(book, key=lambda key: (book[key]["touched"], key))]
    elif happened > order["touched"]:
        order["touched"] = happened
    return order


def _count(orders: dict[str, Any], order: dict[str, Any], sign: int) -> None:
    """Add or take away what one order contributes to the sums."""
    completed, cancelled = "at" in order, bool(order.get("cancelled"))
    orders["completed"] += sign * completed
    orders["cancelled"] += sign * (completed and cancelled)
    orders["refunded"] += sign * (completed and not cancelled and is_refunded(order))
    if completed and not cancelled:
        _money(orders["revenue"], order.get("currency", NO_CURRENCY), sign * (order.get("revenue") or 0))
        _money(orders["refunds"], order.get("currency", NO_CURRENCY), sign * refund_of(order))


def _money(sums: dict[str, int], currency: str, minor: int) -> None:
    if minor:
        sums[currency] = total = max(-GREATEST, min(sums.get(currency, 0) + minor, GREATEST))
        if total == 0:
            del sums[currency]


def refund_of(order: dict[str, Any]) -> int:
    """Return how much of an order was given back, minor units, at most what was paid."""
    revenue: int = order.get("revenue") or 0
    return revenue if order.get("refund_all") else min(order.get("refund", 0), revenue)


def is_refunded(order: dict[str, Any]) -> bool:
    """Tell whether all of an order was given back."""
    revenue = order.get("revenue")
    return bool(order.get("refund_all")) or (revenue is not None and 0 < revenue <= order.get("refund", 0))


def revenue_of(data: dict[str, Any]) -> int | None:
    """Return the counted revenue, minor units; None when nothing tells it, or what tells it is beyond 2^53.

    The first present of revenue, subtotal, total less shipping and tax, and
    prices times quantities less discount.
    """
    if (told := data.get("revenue_minor")) is not None or (told := data.get("subtotal_minor")) is not None:
        return int(told)
    total = data.get("total_minor")
    if total is not None:
        return int(total - data.get("shipping_minor", 0) - data.get("tax_minor", 0))
    items = data.get("items")
    if items and all("unit_price_minor" in item for item in items):
        lines = sum(item["unit_price_minor"] * item.get("quantity", 1) for item in items)
        lines -= data.get("discount_minor", 0)
        return int(lines) if -GREATEST <= lines <= GREATEST else None
    return None


def apply_order(customer: Customer, name: str, happened: int, data: dict[str, Any]) -> bool:
    """Apply an order event; return True when a new order was completed by it."""
    orders = customer.get("orders")
    if orders is None:
        customer["orders"] = orders = new_orders()
    order = _order(orders, data["order_id"], happened)
    before_at, was_cancelled = order.get("at"), bool(order.get("cancelled"))
    _count(orders, order, -1)
    if name == "order_completed" and before_at is None:
        order["at"] = happened
    if name in ("order_completed", "order_updated"):
        revenue = revenue_of(data)
        # of two amounts told for the same moment the higher counts, whichever comes first
        if revenue is not None and (happened, revenue) >= (order.get("told", -1), order.get("revenue", revenue)):
            order["revenue"], order["told"] = revenue, happened
            if data.get("currency"):
                order["currency"] = data["currency"]
    elif name == "order_cancelled":
        order["cancelled"] = True
    elif data.get("refund_minor") is None:
        order["refund_all"] = True
    else:
        order["refund"] = min(order.get("refund", 0) + data["refund_minor"], GREATEST)
    _count(orders, order, +1)
    is_new = before_at is None and "at" in order
    if is_new:
        orders["first"] = min(happened, orders.get("first", happened))
        orders["last"] = max(happened, orders.get("last", happened))
    _decay_order(customer, order, is_new, was_cancelled)
    return is_new


def _decay_order(customer: Customer, order: dict[str, Any], is_new: bool, was_cancelled: bool) -> None:
    if "at" not in order:
        return
    gone = bool(order.get("cancelled"))
    if is_new and not gone:
        sign = 1.0
    elif gone and not was_cancelled and not is_new:
        sign = -1.0
    else:
        return
    decay(customer, "orders_30d", 30, order["at"], sign)
    decay(customer, "orders_90d", 90, order["at"], sign)


def net_orders(customer: Customer) -> int:
    """Return completed orders less cancelled and fully refunded ones."""
    orders = customer.get("orders")
    return 0 if orders is None else orders["completed"] - orders["cancelled"] - orders["refunded"]


def order_gap(customer: Customer) -> float | None:
    """Return the mean days between orders; None below two."""
    orders = customer.get("orders")
    if orders is None or orders["completed"] < 2:
        return None
    return float((orders["last"] - orders["first"]) / DAY / (orders["completed"] - 1))


# ---- who: the newest value wins by when it was said, in any order ----------------------------------------------------


def set_traits(customer: Customer, happened: int, traits: dict[str, Any]) -> None:
    """Set traits; ``None`` removes one (the removal is remembered, so that an older value cannot bring it back)."""
    known = customer.setdefault("traits", {})
    before: list[tuple[str, Any]] = []
    for name in sorted(traits):
        value, said = traits[name], known.get(name)
        if said is None:
            if len(known) >= MOST_TRAITS:
                continue
        # of two values of one moment the greater in bytes wins, whichever comes first
        elif happened < said[1] or (happened == said[1] and encode(value) <= encode(said[0])):
            continue
        before.append((name, said))
        known[name] = [value, happened]
    while before and len(encode(known)) > MOST_TRAIT_BYTES:
        name, said = before.pop()
        if said is None:
            del known[name]
        else:
            known[name] = said


def set_consent(customer: Customer, happened: int, scopes: dict[str, str]) -> None:
    """Set consent by scope; at the same moment a denial beats a grant.

    With 32 scopes known another grant is not remembered, and a denial takes
    the place of a grant: whoever does not know a grant sends nothing.
    """
    known = customer.setdefault("consent", {})
    for scope in sorted(scopes):
        status, said = scopes[scope], known.get(scope)
        if said is None:
            if len(known) >= MOST_SCOPES:
                grants = [name for name in known if known[name][0] == GRANTED]
                if status == GRANTED or not grants:
                    continue
                del known[min(grants)]
        elif (happened, _STRENGTH[status]) <= (said[1], _STRENGTH[said[0]]):
            continue
        known[scope] = [status, happened]


def know_as(customer: Customer, anonymous_id: str) -> None:
    """Remember an anonymous id of this customer, sorted, at most 50."""
    known = customer.setdefault("anonymous_ids", [])
    if anonymous_id not in known and len(known) < MOST_ANONYMOUS_IDS:
        insort(known, anonymous_id)

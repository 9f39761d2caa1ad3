"""The seven stages of the life cycle: depth x vitality, and the moves that are legal.

Stages on the wire: awareness interest evaluation purchase use loyalty churn.
Somebody lapsed is in ``churn`` whatever the depth; advocacy (depth 6) is
sent as ``loyalty``. At most one move of vitality and one of depth for each
entry or timer, vitality first. Time rules run on journal time.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from journey.aggregates import cart_lines, decayed, net_orders, order_gap
from journey.events import BEHAVIOUR, DAY
from journey.state import Customer

AWARENESS, INTEREST, EVALUATION, PURCHASE, USE, LOYALTY, ADVOCACY = range(7)
NAMES: Final = ("awareness", "interest", "evaluation", "purchase", "use", "loyalty", "loyalty")
CHURN: Final = "churn"
ADVOCATE: Final = "advocate"

LEGAL: Final[frozenset[tuple[int, int]]] = frozenset(
    [(low, high) for low in (0, 1, 2) for high in (1, 2, 3) if low < high]
    + [(2, 1), (1, 0), (3, 2), (4, 3), (5, 3), (5, 4), (6, 3), (6, 4), (6, 5), (3, 4), (4, 5), (4, 6), (5, 6)]
)

WEEK: Final = 7 * DAY
INTEREST_LASTS: Final = 60 * DAY
EVALUATION_LASTS: Final = 30 * DAY
ADVOCACY_LASTS: Final = 365 * DAY
PROSPECT_LAPSES: Final = 90 * DAY
SECOND_ORDER_EXPECTED: Final = 45 * DAY  # until a shop's own median is known
BUYER_LAPSES: Final = 60 * DAY
LAPSES_AT_GAPS: Final = 4
AT_RISK_AT_GAPS: Final = 2.0
LOYAL_ORDERS: Final = 4
LOYAL_SPAN: Final = 60 * DAY
LOYAL_DECAYED: Final = 2.0
LOYAL_NO_MORE: Final = 1.0
CALM: Final = 0.7  # of theta; below it twice, somebody at risk is active again
CALM_LOOKS: Final = 2
TIMER: Final = "stage"
NEVER: Final = 1 << 60


class Move(NamedTuple):
    """A change of the stage's name (or into advocacy), with words and facts."""

    before: str | None
    after: str
    text: str
    facts: dict[str, Any]
    is_scored: bool = False  # the churn score moved it


class Evidence(NamedTuple):
    """What a trusted churn model says of the shop: the threshold of risk, and when a second order is expected."""

    theta: float | None  # the score that the riskiest tenth exceeds; None while the model is not trusted
    second_order: int  # ms after the first: the shop's own median gap


NO_EVIDENCE: Final = Evidence(None, SECOND_ORDER_EXPECTED)


def name_of(depth: int, vitality: str) -> str:
    """Return a stage's name on the wire."""
    return CHURN if vitality == "lapsed" else NAMES[depth]


def stage_name(customer: Customer) -> str:
    """Return the name of the customer's stage."""
    return name_of(customer["stage"]["depth"], customer["stage"]["vitality"])


def first_move(customer: Customer) -> Move:
    """Return the move of somebody who was never seen before."""
    return Move(None, NAMES[AWARENESS], "first seen", {"seen_at": customer["seen"]})


def on_event(
    customer: Customer, cls: str | None, now: int, *, new_order: bool, advocates: bool, signs_up: bool
) -> Move | None:
    """Move the stage after an event of a class was folded; return what changed, if anything."""
    stage = customer["stage"]
    depth_before, vitality_before = stage["depth"], stage["vitality"]
    vitality_reason = None
    if vitality_before != "active":
        vitality_reason = _vitality_on_event(customer, cls, now, new_order=new_order)
    if advocates:
        customer["advocated"] = now
    depth, text = _depth_on_event(customer, cls, now, new_order=new_order, advocates=advocates, signs_up=signs_up)
    depth_reason = None if depth == depth_before else _move_depth(customer, depth, text)
    if new_order and "weekly" not in stage:
        stage["weekly"] = now + WEEK
    # only a move or an order brings a rule of time nearer; whatever else happens puts it off, and the look waits
    if depth_reason is not None or vitality_reason is not None:
        _arm(customer)
        return _told(customer, name_of(depth_before, vitality_before), vitality_reason, depth_reason, now)
    if TIMER not in customer["timers"] or cls == "purchase":
        _arm(customer)
    return None


def on_timer(customer: Customer, now: int, evidence: Evidence = NO_EVIDENCE) -> Move | None:
    """Look at the rules of time, move the stage, and set the next look; return what changed, if anything."""
    stage = customer["stage"]
    before = stage_name(customer)
    is_weekly = "weekly" in stage and stage["weekly"] <= now
    score = _score(customer, now) if is_weekly and evidence.theta is not None else None
    calmed = _calmed(customer, score, evidence) if is_weekly and stage["vitality"] == "at_risk" else None
    vitality_reason = _vitality_on_timer(customer, now, evidence, score, is_weekly=is_weekly) or calmed
    depth_reason = _move_depth(customer, *_depth_on_timer(customer, now, is_weekly=is_weekly))
    if is_weekly:
        stage["weekly"] += ((now - stage["weekly"]) // WEEK + 1) * WEEK
    if stage["vitality"] == "lapsed":
        stage.pop("weekly", None)
    del customer["timers"][TIMER]
    moved = vitality_reason is not None or depth_reason is not None
    _arm(customer, earliest=0 if moved else now + 1)
    move = _told(customer, before, vitality_reason, depth_reason, now)
    return move._replace(is_scored=True) if move is not None and vitality_reason in SCORED else move


SCORED: Final = ("unlikely to order again soon", "likely to order again")


def _score(customer: Customer, now: int) -> float | None:
    """Return the churn score of this week; None when the model abstained or did not ask."""
    told = customer.get("scores", {}).get("churn")
    if told is None or now - told[3] >= WEEK:
        return None
    score: float | None = told[0]
    return score


def _calmed(customer: Customer, score: float | None, evidence: Evidence) -> str | None:
    """Somebody at risk whose score was low twice is active again."""
    stage = customer["stage"]
    if score is None or evidence.theta is None or score >= CALM * evidence.theta:
        stage.pop("calm", None)
        return None
    looks = stage.get("calm", 0) + 1
    if looks < CALM_LOOKS:
        stage["calm"] = looks
        return None
    stage.pop("calm", None)
    stage["vitality"] = "active"
    return SCORED[1]


def _vitality_on_event(customer: Customer, cls: str | None, now: int, *, new_order: bool) -> str | None:
    stage = customer["stage"]
    if new_order:
        stage["vitality"] = "active"
        stage.pop("returned", None)
        stage.pop("calm", None)
        return "ordered again"
    if stage["vitality"] == "lapsed":
        if not _is_buyer(customer):
            stage["vitality"] = "active"
            return "came back"
        if cls in ("click", "cart"):
            stage["vitality"] = "at_risk"
            stage["returned"] = now
            return "came back, has not ordered yet"
    return None


def _vitality_on_timer(
    customer: Customer, now: int, evidence: Evidence, score: float | None, *, is_weekly: bool
) -> str | None:
    stage = customer["stage"]
    if stage["vitality"] != "lapsed" and now >= _lapses_at(customer):
        stage["vitality"] = "lapsed"
        stage.pop("calm", None)
        return "no order for too long" if _is_buyer(customer) else "not seen for 90 days"
    if stage["vitality"] == "active" and is_weekly and _is_buyer(customer):
        if score is not None and evidence.theta is not None:
            if score >= evidence.theta:
                stage["vitality"] = "at_risk"
                return SCORED[0]
            return None
        gap = order_gap(customer)
        recency = now - customer["orders"]["last"]
        late = recency > evidence.second_order if gap is None else recency / DAY / (gap + 1.0) > AT_RISK_AT_GAPS
        if late:
            stage["vitality"] = "at_risk"
            return "overdue"
    return None


def _is_buyer(customer: Customer) -> bool:
    orders = customer.get("orders")
    return orders is not None and bool(orders["completed"])


def _lapses_at(customer: Customer) -> int:
    """Return when (ms) a customer lapses if nothing happens."""
    if not _is_buyer(customer):
        return customer["seen"] + PROSPECT_LAPSES
    gap = order_gap(customer)
    own = 0 if gap is None else int(LAPSES_AT_GAPS * gap * DAY)
    # a lapsed buyer who came back has a new chance from that day on; + 1: "more than"
    begin = max(customer["orders"]["last"], customer["stage"].get("returned", 0))
    return int(begin + max(BUYER_LAPSES, own) + 1)


def _is_loyal(customer: Customer, now: int) -> bool:
    orders = customer.get("orders")
    return (
        orders is not None
        and net_orders(customer) >= LOYAL_ORDERS
        and orders["last"] - orders["first"] >= LOYAL_SPAN
        and decayed(customer, "orders_90d", 90, now) >= LOYAL_DECAYED
        and customer["stage"]["vitality"] == "active"
    )


def _is_interested(customer: Customer, cls: str | None, now: int, *, signs_up: bool) -> str | None:
    """Return why an event tells of interest; a mail delivered long after a visit does not."""
    if signs_up:
        return "signed up or consented"
    session = customer.get("session")
    if session is None or cls not in BEHAVIOUR:
        return None
    if session["views"] >= 3:
        return "three product views in a session"
    if sum([start > now - 30 * DAY for start in session["starts"]]) >= 2:
        return "two sessions in 30 days"
    return None


def _depth_on_event(
    customer: Customer, cls: str | None, now: int, *, new_order: bool, advocates: bool, signs_up: bool
) -> tuple[int, str]:
    depth = customer["stage"]["depth"]
    if depth <= EVALUATION:
        if "orders" in customer and net_orders(customer) >= 1:
            return PURCHASE, "ordered"
        if depth < EVALUATION and customer.get("evaluated") == now:
            return EVALUATION, "looked closer: cart, wish list or the same item again"
        if depth < INTEREST and (text := _is_interested(customer, cls, now, signs_up=signs_up)):
            return INTEREST, text
        return depth, ""
    net = net_orders(customer)
    used = len(customer.get("use_days", ())) >= 3
    if depth == PURCHASE:
        if net < 1:
            return EVALUATION, "the only order was undone"
        return (USE, "ordered again" if net >= 2 else "uses it") if net >= 2 or used else (depth, "")
    if depth == USE or cls == "purchase":
        kept = USE if net >= 2 or (used and net >= 1) else PURCHASE
        if kept < USE:
            return kept, "an order was undone"
        if depth == LOYALTY and net < LOYAL_ORDERS:
            return USE, "an order was undone"
    # advocates who lapse go back, so nobody becomes one while lapsed
    if depth < ADVOCACY and advocates and customer["stage"]["vitality"] != "lapsed":
        return ADVOCACY, ADVOCATE
    if depth == USE and new_order and _is_loyal(customer, now):
        return LOYALTY, "orders often"
    return depth, ""


def _depth_on_timer(customer: Customer, now: int, *, is_weekly: bool) -> tuple[int, str]:
    stage = customer["stage"]
    depth = stage["depth"]
    if depth == EVALUATION and now >= customer.get("evaluated", stage["since"]) + EVALUATION_LASTS:
        return INTEREST, "30 days without cart or a look at its items"
    if depth == INTEREST and now >= customer["seen"] + INTEREST_LASTS:
        return AWARENESS, "60 days without any event"
    lapsed = stage["vitality"] == "lapsed"
    fewer = is_weekly and decayed(customer, "orders_90d", 90, now) < LOYAL_NO_MORE
    if depth == LOYALTY and (lapsed or fewer):
        return USE, "lapsed" if lapsed else "orders less often"
    if depth == ADVOCACY and lapsed:
        return USE, "lapsed"
    if depth == ADVOCACY and now >= customer.get("advocated", stage["since"]) + ADVOCACY_LASTS:
        return (LOYALTY if _is_loyal(customer, now) else USE), "a year without a sign of advocacy"
    return depth, ""


def _move_depth(customer: Customer, depth: int, text: str) -> str | None:
    stage = customer["stage"]
    if depth == stage["depth"] or (stage["depth"], depth) not in LEGAL:
        return None
    stage["depth"] = depth
    return text


def _told(customer: Customer, before: str, vitality: str | None, depth: str | None, now: int) -> Move | None:
    if vitality is None and depth is None:
        return None
    after = stage_name(customer)
    if after != before:
        customer["stage"]["since"] = now
    elif depth != ADVOCATE:
        return None
    text = "; ".join(words for words in (vitality, depth) if words)
    return Move(before, after, text, _facts(customer))


def _facts(customer: Customer) -> dict[str, Any]:
    facts: dict[str, Any] = {"depth": customer["stage"]["depth"], "vitality": customer["stage"]["vitality"]}
    if "orders" in customer:
        facts["orders.net"] = net_orders(customer)
        if "last" in customer["orders"]:
            facts["orders.last_at"] = customer["orders"]["last"]
    if lines := cart_lines(customer):
        facts["cart.lines"] = len(lines)
    if (told := customer.get("scores", {}).get("churn")) is not None and told[0] is not None:
        facts["score.churn"] = told[0]
    if "session" in customer:
        facts["session.count"] = customer["session"]["count"]
    return facts


def _arm(customer: Customer, earliest: int = 0) -> None:
    """Set the next look no later than the first moment a rule of time can hold; an earlier one stays and looks again.

    ``earliest`` keeps a look that changed nothing from being taken again at once.
    """
    stage = customer["stage"]
    due = stage.get("weekly", NEVER)
    if stage["vitality"] != "lapsed":
        due = min(due, _lapses_at(customer))
    depth = stage["depth"]
    if depth == EVALUATION:
        due = min(due, customer.get("evaluated", stage["since"]) + EVALUATION_LASTS)
    elif depth == INTEREST:
        due = min(due, customer["seen"] + INTEREST_LASTS)
    elif depth == ADVOCACY:
        due = min(due, customer.get("advocated", stage["since"]) + ADVOCACY_LASTS)
    timers = customer["timers"]
    if due < timers.get(TIMER, NEVER):
        timers[TIMER] = max(due, earliest)

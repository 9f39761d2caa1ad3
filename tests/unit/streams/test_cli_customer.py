"""What an operator sees of one customer, in 80 columns."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from streams.cli_customer import learned, show

SINCE = "2026-11-20T08:14:02.000Z"
SCORES: dict[str, dict[str, Any]] = {
    "churn": {"value": 0.1234, "model_version": 42, "labels": 1830, "at": SINCE},
    "intent": {"value": None, "model_version": 7, "labels": 310, "at": SINCE, "abstained": "few_labels"},
    "clv": {"value": 1240.5, "orders": 4.25, "alive": 0.93, "model_version": 18, "labels": 1},
    "spend": {"value": 0.0312, "by": "decayed revenue", "model_version": 16, "labels": 5419},
}
WHY = {
    "churn": {
        "model": "churn.blend/42",
        "text": "lower because: ordered 2 days ago (-0.8), 2.5 orders, halving in 30 days (-0.5), 12 days between "
        "orders on average (-0.2); higher because: discounts of 12 % of revenue (+0.3)",
    }
}


def document(**differs: Any) -> dict[str, Any]:
    return {
        "v": 1, "customer": "u:42", "anonymous_ids": [f"{number:016x}" for number in range(9)], "last_seen_at": SINCE,
        "traits": {"email": "a@example.com", "city": "Paris [old]"},
        "stage": {"name": "use", "reason": "active", "since": SINCE}, "segments": ["vip", "paris"],
        "cluster": "regulars", "cluster_evidence": {"since": SINCE, "model_version": 110, "by": "model"},
        "features": {"orders.count": 12, "orders.currency": "EUR", "orders.gap_days": None}, "scores": SCORES,
        "cart": {"id": "c-7", "items": [{"item_id": f"item-{number}", "quantity": 2} for number in range(20)]},
        "consent": {"marketing": "granted"},
        "runs": [{"journey": "abandoned_cart", "run_id": "r", "run_key": "k", "entered_at": SINCE}],
        "recommendations": [{"item_id": "item-3", "score": 0.5, "why": "popular", "text": "because many do"}],
        "as_of": {"partition": 3, "position": 77},
    } | differs  # fmt: skip


def lines(explanations: dict[str, Any] | None = None, **differs: Any) -> list[str]:
    return list(learned(document(**differs), explanations))


def test_a_customer_fits_80_columns_and_nothing_of_it_is_taken_for_markup() -> None:
    out = StringIO()
    show(Console(file=out, width=80, highlight=False), document(), "table", WHY)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for told in (
        "u:42  stage use (active, since 2026-11-20)  last seen 2026-11-20T08:14", "city=Paris [old]",
        "in journey abandoned_cart since", "orders.count", "as of journal partition 3, position 77, from table",
    ):  # fmt: skip
        assert told in text
    assert "orders.gap_days" not in text


def test_each_score_is_told_with_its_evidence_or_that_there_is_not_enough() -> None:
    told = lines(WHY)
    for line in (
        "churn 0.12: no order in the next 30 days (churn.blend/42, 1,830 labels)",
        "intent: not enough evidence (310 labels)",
        "spend 0.031: in the next 30 days (version 16, by decayed revenue, 5,419 labels)",
    ):  # fmt: skip
        assert line in told
    whole = " ".join(" ".join(told).split())
    assert "lifetime value 1,240.50: in the next 39 weeks, 4.2 orders, with a chance of 0.93 for any" in whole
    assert "(version 18, 1 buyer)" in whole
    none = {"intent": SCORES["intent"] | {"model_version": None, "labels": 0}}
    assert "intent: not enough evidence (no model is in force)" in lines(scores=none)


def test_reasons_stand_below_their_score_by_direction() -> None:
    told = lines(WHY)
    at = told.index("churn 0.12: no order in the next 30 days (churn.blend/42, 1,830 labels)")
    assert told[at + 1].startswith("  lower because: ordered 2 days ago (-0.8), 2.5 orders")
    assert told[at + 3] == "  higher because: discounts of 12 % of revenue (+0.3)"


def test_where_the_record_was_not_read_it_says_how_to_get_reasons() -> None:
    assert "  why: journey customer u:42 --from table" in lines(None)
    assert not any("--from table" in line for line in [*lines(WHY), *lines(None, scores={})])


def test_segments_are_told_with_what_put_the_customer_there() -> None:
    assert lines()[:2] == ["segments: vip, paris", "behaves like: regulars (segments, version 110, since 2026-11-20)"]
    described = {"since": SINCE, "model_version": None, "by": "prototypes"}
    assert "behaves like: regulars (described, not learned, since 2026-11-20)" in lines(cluster_evidence=described)
    assert not any("behaves" in line for line in lines(cluster=None, cluster_evidence=None))


def test_recommendations_have_their_reasons() -> None:
    assert lines()[-2:] == ["to recommend:", "  item-3  because many do"]
    assert "to recommend:" not in lines(recommendations=[])

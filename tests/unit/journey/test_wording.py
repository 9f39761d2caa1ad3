"""Scores in words: every feature has some, in its own unit, and only what weighs is told."""

from __future__ import annotations

import math

import pytest

from journey.samples import SCHEMAS
from journey.wording import LEAST_TOLD, MOST_TOLD, WORDS, reasons, sentence

ASKED = ("churn/1", "intent/1")  # schemas of models that give probabilities
CHURN, INTENT = SCHEMAS["churn/1"], SCHEMAS["intent/1"]


def words(schema: str, **values: float) -> str:
    """Return how the first of these features is told."""
    names = SCHEMAS[schema]
    first = next(iter(values))
    row = [values.get(name, 0.0) for name in names]
    found = reasons(schema, row, [(first, 1.0)])
    return found.higher[0].text


@pytest.mark.parametrize("schema", ASKED)
def test_every_feature_of_a_score_has_words_and_no_other(schema: str) -> None:
    assert tuple(WORDS[schema]) == SCHEMAS[schema]


def test_every_row_that_is_scored_by_a_probability_has_words() -> None:
    assert tuple(WORDS) == ASKED


@pytest.mark.parametrize("value", [0.0, 0.0001, 0.6931, 1.0, 5.9026, 8.0])
@pytest.mark.parametrize(("schema", "name"), [(schema, name) for schema in ASKED for name in SCHEMAS[schema]])
def test_whatever_a_row_holds_is_told_in_a_few_words(schema: str, name: str, value: float) -> None:
    told = words(schema, **{name: value})
    assert 5 < len(told) < 60
    assert "nan" not in told


@pytest.mark.parametrize(
    ("schema", "values", "told"),
    [
        ("churn/1", {"rec": 1.0986}, "ordered 2 days ago"),
        ("churn/1", {"rec": 0.6931}, "ordered 1 day ago"),
        ("churn/1", {"rec": 0.5}, "ordered within the last day"),
        ("churn/1", {"overdue": 2.35}, "quiet for 2.4 x the usual time between orders"),
        ("churn/1", {"gap": 2.5649}, "12 days between orders on average"),
        ("churn/1", {"gapsd": 0.6931}, "times between orders vary by 1 day"),
        ("churn/1", {"f30": 1.2528}, "2.5 orders, halving in 30 days"),
        ("churn/1", {"f90": 0.6931}, "1 order, halving in 90 days"),
        ("churn/1", {"m30": 4.8006}, "120.58 spent, halving in 30 days"),
        ("churn/1", {"bv": 3.2581}, "25.00 an order on average"),
        ("churn/1", {"it30": 1.0986}, "2 order lines, halving in 30 days"),
        ("churn/1", {"disc": 0.123}, "discounts of 12 % of revenue"),
        ("churn/1", {"cats": 2.25}, "2.2 categories an order"),
        ("churn/1", {"ten": 5.3033}, "first ordered 200 days ago"),
        ("churn/1", {"vis7": 0.5878}, "0.8 orders, halving in 7 days"),
        ("intent/1", {"views": 1.9459}, "6 product views in this visit"),
        ("intent/1", {"carts": 0.0}, "nothing put into the cart"),
        ("intent/1", {"carts": 1.0}, "1 put into the cart"),
        ("intent/1", {"dur": 5.1985}, "here for 3 minutes"),
        ("intent/1", {"dur": 4.1109}, "here for 60 seconds"),
        ("intent/1", {"pace": 0.5}, "30 seconds between events"),
        ("intent/1", {"hour_sin": -0.8660, "hour_cos": -0.5}, "at about 16 o'clock UTC"),
        ("intent/1", {"hour_sin": -0.0087, "hour_cos": 1.0}, "at about 0 o'clock UTC"),
        ("intent/1", {"rec_buy": 5.9026}, "no order in the last year"),
        ("intent/1", {"rec_buy": 1.3863}, "ordered 3 days ago"),
        ("intent/1", {"v": 3.1781}, "23 clicks, halving in 30 days"),
        ("intent/1", {"c": 0.6931}, "1 cart event, halving in 30 days"),
        ("intent/1", {"s": 1.3863}, "3 visits, halving in 30 days"),
        ("intent/1", {"b": 0.0}, "0 orders, halving in 30 days"),
        ("intent/1", {"rate": 0.4}, "0.40 orders a visit lately"),
        ("intent/1", {"again": 3.0}, "one item viewed 3 times"),
        ("intent/1", {"focus": 0.8}, "80 % of the views in one category"),
    ],
)
def test_a_number_is_told_in_the_unit_it_came_from(schema: str, values: dict[str, float], told: str) -> None:
    assert words(schema, **values) == told


def test_the_largest_parts_are_told_by_direction_and_the_rest_is_left_out() -> None:
    parts = [("rec", -0.8), ("f30", -0.5), ("gap", 0.9), ("m30", -0.4), ("m90", -0.3), ("bv", 0.04), ("ten", -0.049)]
    found = reasons("churn/1", [0.0] * len(CHURN), parts)
    assert [one.features for one in found.lower] == [("rec",), ("f30",), ("m30",)]
    assert [one.features for one in found.higher] == [("gap",)]
    assert len(found.lower) == MOST_TOLD
    assert all(abs(one.part) >= LEAST_TOLD for one in (*found.lower, *found.higher))


def test_the_hour_is_two_features_and_one_reason() -> None:
    found = reasons("intent/1", [0.0] * len(INTENT), [("hour_sin", 0.3), ("rate", -0.2), ("hour_cos", -0.1)])
    assert [(one.features, round(one.part, 4)) for one in found.higher] == [(("hour_sin", "hour_cos"), 0.2)]


def test_what_nothing_is_known_of_is_no_reason() -> None:
    row = [math.nan] * len(CHURN)
    assert sentence(reasons("churn/1", row, [(name, 1.0) for name in CHURN])) == "nothing in it stands out"


def test_reasons_are_said_in_one_line() -> None:
    found = reasons("churn/1", [0.0] * len(CHURN), [("rec", -0.81), ("f30", 0.42), ("gap", 0.26)])
    assert sentence(found) == (
        "lower because: ordered within the last day (-0.8); higher because: 0 orders, halving in 30 days (+0.4), "
        "0 days between orders on average (+0.3)"
    )

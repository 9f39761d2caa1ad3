from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey import aggregates, conditions
from journey.conditions import (
    CURRENCIES,
    MOST_CHARACTERS,
    MOST_DEPTH,
    NAMES,
    ONE_OF,
    Condition,
    DeclarationError,
    Declared,
    Fault,
    Lookup,
    Value,
    parse,
)
from journey.events import GREATEST
from journey.features import CATALOGUE
from journey.stages import CHURN
from journey.stages import NAMES as STAGES

Json = dict[str, Any]

LEAF_NAMES = ("a", "b", "c")
NUMBERS = dict.fromkeys(LEAF_NAMES, "events")


def holds(text: str, **known: Value) -> bool:
    """Tell whether a condition holds; ``trait__age=1`` is the trait ``age``."""
    return parse(text, NAMES).holds({name.replace("__", "."): value for name, value in known.items()}.get)


def faults(text: str) -> list[tuple[int, str]]:
    with pytest.raises(DeclarationError) as refused:
        parse(text, NAMES)
    return [(fault.column, fault.text) for fault in refused.value.faults]


def refusal(text: str) -> str:
    ((_, told),) = faults(text)
    return told


# ---- what binds how --------------------------------------------------------------------------------------------------


@st.composite
def sums(draw: st.DrawFn, depth: int = 3) -> str:
    """Return something to calculate, as it is written here and in Python alike."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from([*LEAF_NAMES, "0", "1", "2", "7", "2.5"]))
    left, right = draw(sums(depth - 1)), draw(sums(depth - 1))
    shape = draw(st.sampled_from(["{} + {}", "{} - {}", "{} * {}", "({} - {})", "-{} * {}", "{} - -{}", "min({}, {})"]))
    return shape.format(left, right)


@st.composite
def truths(draw: st.DrawFn, depth: int = 3) -> str:
    """Return a condition on numbers, as it is written here and in Python alike."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        op = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
        return f"{draw(sums())} {op} {draw(sums())}"
    left, right = draw(truths(depth - 1)), draw(truths(depth - 1))
    shape = draw(st.sampled_from(["{} and {}", "{} or {}", "not {} and {}", "({} or {})", "not ({} and {})"]))
    return shape.format(left, right)


def of(values: dict[str, Value]) -> Lookup:
    return values.get


def found_in(**values: Value) -> Lookup:
    return of(values)


@given(truths(), st.integers(-5, 5), st.integers(-5, 5), st.floats(-5, 5))
def test_words_bind_as_they_do_in_python(text: str, a: int, b: int, c: float) -> None:
    expected = eval(text, {"a": a, "b": b, "c": c, "min": min})  # noqa: S307  # the oracle; the text was made above
    assert parse(text, NUMBERS).holds(found_in(a=a, b=b, c=c)) is bool(expected)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a==1 or b==1 and c==1", "a == 1 or (b == 1 and c == 1)"),
        ("not a==1 and b==1", "(not a == 1) and b == 1"),
        ("not a+1<b*2", "not ((a + 1) < (b * 2))"),
        ("-a-b-c<1", "(((-a) - b) - c) < 1"),
        ("a/b/c<1", "((a / b) / c) < 1"),
        ("not a is missing", "not (a is missing)"),
        ("a + 1 is not missing", "(a + 1) is not missing"),
        ("a + 1 in [2, 3]", "(a + 1) in [2, 3]"),
    ],
)
def test_brackets_say_what_binds_without_them(text: str, same: str) -> None:
    values: list[Value] = [None, -1, 0, 1, 2]
    for a in values:
        for b in values:
            look = found_in(a=a, b=b, c=2)
            assert parse(text, NUMBERS).holds(look) is parse(same, NUMBERS).holds(look)


@given(truths())
def test_what_was_read_can_be_written_and_read_again(text: str) -> None:
    read = parse(text, NUMBERS)
    again = parse(str(read), NUMBERS)
    assert str(again) == str(read)
    assert again.names == read.names
    for a in (None, -1, 0, 2, 7):
        look = found_in(a=a, b=1, c=2.5)
        assert again.holds(look) is read.holds(look)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("trait.x=='it''s'", "trait.x == 'it''s'"),
        ("( trait.x   in ['a','b'] )", "trait.x in ['a', 'b']"),
        ("orders.revenue_minor>=29.90   EUR", "orders.revenue_minor >= 29.90 EUR"),
        ("((recency.days<90d))and not(trait.a or trait.b)", "recency.days < 90d and not (trait.a or trait.b)"),
        ("floor( orders.overdue )==max(1,2)", "floor(orders.overdue) == max(1, 2)"),
        ("orders.overdue - (1 - 2) > -(-3)", "orders.overdue - (1 - 2) > --3"),
        ("trait.a is   not missing", "trait.a is not missing"),
        ("trait.a == true", "trait.a == true"),
    ],
)
def test_it_is_written_in_one_way(text: str, written: str) -> None:
    assert str(parse(text, NAMES)) == written


# ---- values ----------------------------------------------------------------------------------------------------------


class TestMissing:
    @pytest.mark.parametrize("op", ["==", "!=", "<", "<=", ">", ">="])
    def test_a_missing_value_compares_false(self, op: str) -> None:
        assert not holds(f"orders.overdue {op} 1")
        assert not holds(f"1 {op} orders.overdue")
        assert not holds(f"orders.overdue {op} orders.overdue")

    @pytest.mark.parametrize(
        "text",
        [
            "trait.x in ['a']", "trait.x contains 'a'", "trait.x", "trait.x == trait.y", "[1, 2] contains trait.x",
            "trait.x != false", "'a' in trait.x",
        ],
    )  # fmt: skip
    def test_it_is_in_nothing_and_contains_nothing(self, text: str) -> None:
        assert not holds(text)

    def test_so_not_holds_of_what_is_not_known(self) -> None:
        assert holds("not (trait.age < 30)")
        assert not holds("trait.age >= 30")

    def test_it_can_be_asked_for(self) -> None:
        assert holds("trait.x is missing")
        assert not holds("trait.x is not missing")
        assert not holds("trait.x is missing", trait__x=0)
        assert holds("trait.x is not missing", trait__x=False)

    @pytest.mark.parametrize(
        "text",
        [
            "trait.x + 1",
            "1 - trait.x",
            "trait.x * 0",
            "-trait.x",
            "floor(trait.x)",
            "min(1, trait.x)",
            "max(trait.x, 1)",
        ],
    )
    def test_what_is_calculated_with_it_is_missing(self, text: str) -> None:
        assert holds(f"{text} is missing")
        assert not holds(f"{text} is missing", trait__x=1)

    def test_a_division_by_zero_is_missing(self) -> None:
        assert holds("1 / orders.count is missing", orders__count=0)
        assert holds("orders.count / (1 - 1) is missing", orders__count=3)
        assert not holds("1 / orders.count <= 1", orders__count=0)

    @pytest.mark.parametrize("value", ["ten", True, ["a", 1]], ids=repr)
    def test_a_trait_that_is_no_number_is_none(self, value: Value) -> None:
        assert holds("trait.x + 1 is missing", trait__x=value)
        assert holds("floor(trait.x) is missing", trait__x=value)
        assert not holds("trait.x < 100", trait__x=value)
        assert not holds("trait.x >= 0", trait__x=value)


class TestNumbers:
    def test_whole_numbers_stay_whole(self) -> None:
        assert holds(f"orders.count + 1 == {GREATEST}", orders__count=GREATEST - 1)
        assert not holds(f"orders.count + 1 == {GREATEST}", orders__count=GREATEST - 2)
        assert holds("orders.count * 3 / 3 == 94906265", orders__count=94906265)

    def test_beyond_what_json_tells_exactly_there_is_none(self) -> None:
        assert holds("orders.count + 1 is missing", orders__count=GREATEST)
        assert holds("orders.count * orders.count is missing", orders__count=GREATEST)
        assert holds("trait.x * trait.x is missing", trait__x=1e300)
        assert holds("floor(trait.x) is missing", trait__x=1e300)

    def test_a_quotient_is_a_fraction(self) -> None:
        assert holds("orders.count / 2 == 1.5", orders__count=3)
        assert holds("floor(orders.count / 2) == 1", orders__count=3)
        assert holds("floor(-orders.count / 2) == -2", orders__count=3)

    def test_the_least_and_the_greatest(self) -> None:
        assert holds("min(3, orders.count, 5) == 2 and max(3, orders.count, 5) == 5", orders__count=2)

    def test_one_is_not_true_and_ten_is_not_its_text(self) -> None:
        assert not holds("trait.x == true", trait__x=1)
        assert not holds("trait.x == 1", trait__x=True)
        assert holds("trait.x != 10", trait__x="10")
        assert holds("trait.x == 10", trait__x=10.0)
        assert not holds("trait.x in [1, 2]", trait__x=True)


class TestMoney:
    @pytest.mark.parametrize(
        ("amount", "minor", "currency"),
        [
            ("30 EUR", 3000, "EUR"), ("29.9 EUR", 2990, "EUR"), ("0.01 EUR", 1, "EUR"), ("500 JPY", 500, "JPY"),
            ("1.5 KWD", 1500, "KWD"), ("0.0001 CLF", 1, "CLF"), ("90071992547409.91 EUR", GREATEST, "EUR"),
        ],
    )  # fmt: skip
    def test_amounts_are_compared_in_minor_units(self, amount: str, minor: int, currency: str) -> None:
        known: Json = {"orders__currency": currency}
        assert holds(f"orders.revenue_minor == {amount}", orders__revenue_minor=minor, **known)
        assert holds(f"orders.revenue_minor >= {amount}", orders__revenue_minor=minor, **known)
        assert not holds(f"orders.revenue_minor >= {amount}", orders__revenue_minor=minor - 1, **known)

    def test_yen_are_not_cents(self) -> None:
        for text in ("orders.revenue_minor >= 500 EUR", "orders.revenue_minor != 500 EUR"):
            assert not holds(text, orders__revenue_minor=60_000, orders__currency="JPY")

    @pytest.mark.parametrize("currency", [None, "XXX"])
    def test_a_currency_that_was_not_told_is_the_one_compared_with(self, currency: str | None) -> None:
        assert holds("cart.value_minor >= 30 EUR", cart__value_minor=3000, cart__currency=currency)

    def test_two_names_of_two_currencies_do_not_compare(self) -> None:
        text = "cart.value_minor > orders.mean_minor"
        amounts: Json = {"cart__value_minor": 200, "orders__mean_minor": 100.5}
        assert holds(text, **amounts, cart__currency="EUR", orders__currency="EUR")
        assert holds(text, **amounts, orders__currency="EUR")
        assert not holds(text, **amounts, cart__currency="JPY", orders__currency="EUR")
        assert holds(
            "cart.value_minor + orders.mean_minor is missing", **amounts, cart__currency="JPY", orders__currency="EUR"
        )

    def test_money_is_calculated_with(self) -> None:
        known: Json = {"orders__revenue_minor": 9000, "orders__currency": "EUR", "orders__count": 3}
        assert holds("orders.revenue_minor / orders.count == 30 EUR", **known)
        assert holds("orders.revenue_minor / 30 EUR == orders.count", **known)
        assert holds("floor(orders.revenue_minor / 7 EUR) == 12", **known)
        assert holds("2 * 45 EUR == orders.revenue_minor", **known)
        assert holds("orders.revenue_minor - 100 EUR == -10 EUR", **known)
        assert holds("max(orders.revenue_minor, 100 EUR) == 100 EUR", **known)
        assert holds("orders.revenue_minor in [10 EUR, 90 EUR]", **known)
        assert not holds("orders.revenue_minor in [10 EUR, 90 JPY]", **known)

    def test_all_currencies_are_three_capitals(self) -> None:
        assert {"EUR", "JPY", "KWD", "CLF"} <= CURRENCIES
        assert all(len(code) == 3 and code.isascii() and code.isupper() for code in CURRENCIES)


class TestDurations:
    @pytest.mark.parametrize(
        ("span", "days"), [("7d", 7.0), ("36h", 1.5), ("1h", 0.0417), ("90m", 0.0625), ("5s", 0.0001), ("0d", 0.0)]
    )
    def test_days_are_compared_with_durations_as_features_round_them(self, span: str, days: float) -> None:
        assert holds(f"recency.days <= {span} and recency.days >= {span}", recency__days=days)
        assert not holds(f"recency.days > {span}", recency__days=days)

    def test_they_are_calculated_with(self) -> None:
        assert holds("orders.recency_days > 2 * orders.gap_days + 1d", orders__recency_days=22.0, orders__gap_days=10.0)
        assert holds("orders.recency_days / orders.gap_days == 2.2", orders__recency_days=22.0, orders__gap_days=10.0)


class TestTexts:
    def test_texts_are_compared_letter_by_letter(self) -> None:
        assert holds("trait.country == 'DE'", trait__country="DE")
        assert not holds("trait.country == 'DE'", trait__country="de")
        assert holds("trait.birthday < '1990-01-01'", trait__birthday="1989-12-31")
        assert holds("trait.name == 'O''Hara'", trait__name="O'Hara")
        assert holds("orders.currency in ['EUR', 'CHF']", orders__currency="CHF")

    def test_a_text_contains_its_parts_and_a_list_what_is_in_it(self) -> None:
        assert holds("trait.city contains 'burg'", trait__city="Hamburg")
        assert holds("trait.interests contains 'outdoor'", trait__interests=["music", "outdoor"])
        assert not holds("trait.interests contains 'out'", trait__interests=["music", "outdoor"])
        assert holds("'outdoor' in trait.interests", trait__interests=["outdoor", None, 3])
        assert not holds("trait.interests contains 'outdoor'", trait__interests=7)
        assert not holds("trait.interests contains 3", trait__interests="13")

    def test_two_lists_told_as_traits_are_the_same_or_not(self) -> None:
        assert holds("trait.a == trait.b", trait__a=["x", 1], trait__b=["x", 1.0])
        assert holds("trait.a != trait.b", trait__a=["x", 1], trait__b=["x", True])

    def test_a_trait_that_is_true_is_a_condition(self) -> None:
        assert holds("trait.member and not trait.staff", trait__member=True, trait__staff=False)
        assert not holds("trait.member", trait__member="yes")
        assert holds("trait.member == false", trait__member=False)


# ---- what is refused -------------------------------------------------------------------------------------------------


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "column", "told"),
        [
            ("order.count > 2", 1, "unknown name 'order.count', did you mean 'orders.count'?"),
            ("orders.count > 2 and cart.value > 1", 22, "unknown name 'cart.value', did you mean 'cart.value_minor'?"),
            ("traits.city == 'x'", 1, "unknown name 'traits.city', did you mean 'trait.city'?"),
            ("score.chrun > 0.5", 1, "unknown name 'score.chrun', did you mean 'score.churn'?"),
            ("trait == 'x'", 1, "unknown name 'trait'"),
            ("fluor(1) == 1", 1, "unknown function 'fluor', did you mean 'floor'?"),
            ("orders.revenue_minor > 30 EUT", 27, "'EUT' is no currency, did you mean 'EUR'?"),
            ("stage == 'loyal'", 10, "stage is never 'loyal', did you mean 'loyalty'?"),
            ("stage in ['use', 'chrun']", 18, "stage is never 'chrun', did you mean 'churn'?"),
            ("orders.currency == 'EURO'", 20, "orders.currency is never 'EURO', did you mean 'EUR'?"),
        ],
    )
    def test_a_mistyped_word_is_told_with_the_nearest(self, text: str, column: int, told: str) -> None:
        assert faults(text) == [(column, told)]

    @pytest.mark.parametrize(
        ("text", "column", "told"),
        [
            ("cart.value_minor >= 30", 18, "an amount of money and a number cannot be compared: write an amount"),
            ("30d < orders.count", 5, "a duration and a number cannot be compared: write a duration"),
            ("recency.days < 30 EUR", 14, "a duration and an amount of money cannot be compared"),
            ("trait.income > 30 EUR", 14, "a trait and an amount of money cannot be compared: what a trait counts in"),
            ("orders.count == 'two'", 14, "a number and a text cannot be compared"),
            ("stage > 3", 7, "a text and a number cannot be compared"),
            ("orders.count + 1d > 2d", 14, "a number and a duration cannot be added"),
            ("30 EUR * cart.value_minor > 1 EUR", 8, "an amount of money and an amount of money cannot be multiplied"),
            ("1 / 7d > 2", 3, "a number and a duration cannot be divided"),
            ("min(1, 7d) > 2", 8, "a number and a duration cannot be compared"),
            ("orders.count in [1, 'b']", 21, "a number and a text cannot be in one list"),
            ("orders.count in ['b']", 18, "a text and a number cannot be compared"),
            ("stage + 1 > 2", 1, "a text is nothing to calculate with"),
            ("-stage == 'use'", 2, "a text is nothing to calculate with"),
            ("(1 < 2) < (2 < 3)", 9, "true and false are not ordered"),
            ("orders.count contains 1", 1, "this is a number, which contains nothing"),
            ("trait.x in [[1]]", 13, "lists hold no lists"),
            ("[1] in trait.x", 1, "a list is not looked for"),
            ("trait.x == ['a']", 9, "a list is not compared as a whole"),
            ("orders.count", 1, "this is a number, not a condition"),
            ("trait.x and 'yes'", 13, "this is a text, not a condition"),
            ("not 7d", 5, "this is a duration, not a condition"),
            ("floor(1, 2) == 1", 1, "floor takes one value"),
            ("min() == 1", 1, "min takes values"),
        ],
    )
    def test_units_are_not_mixed(self, text: str, column: int, told: str) -> None:
        (found,) = faults(text)
        assert found[0] == column
        assert found[1].startswith(told)

    @pytest.mark.parametrize(
        ("text", "column", "told"),
        [
            ("", 1, "the condition ends too early"),
            ("   ", 4, "the condition ends too early"),
            ("trait.x ==", 11, "the condition ends too early"),
            ("trait.x == )", 12, "a value is expected here, not ')'"),
            ("(trait.x == 1", 14, "')' is expected here, not 'the end'"),
            ("trait.x trait.y", 9, "'trait.y' is not expected here"),
            ("trait.x is 3", 12, "'missing' is expected here, not '3'"),
            ("1 < trait.x < 3", 13, "comparisons do not follow one another: join them with and"),
            ("trait.x is missing is missing", 20, "comparisons do not follow one another: join them with and"),
            ("trait.x = 3", 9, "write == to compare"),
            ('trait.x == "DE"', 12, "texts stand in single quotes, such as 'DE'"),
            ("trait.x == 'DE", 12, "this text has no end: a quote is missing"),
            ("trait.x % 2 == 0", 9, "'%' means nothing here"),
            ("trait.größe > 1", 9, "'ö' means nothing here"),
            ("recency.days > 7w", 16, "'7w' is no value: durations end in s, m, h or d"),
            ("recency.days > 1.5d", 16, "write a whole number of d"),
            ("recency.days > 99999d", 16, "this duration is too long: 36600d is the most"),
            ("recency.days > 4s", 16, "features do not tell durations so short: 5s is the least"),
            ("cart.value_minor > 30EUR", 20, "'30EUR' is no value: write a space before a currency"),
            ("cart.value_minor > 1.005 EUR", 20, "amounts in EUR have 2 digits after the point"),
            ("cart.value_minor > 1.5 JPY", 20, "amounts in JPY have no digits after the point"),
            ("cart.value_minor > 90071992547409.92 EUR", 20, "this amount is too large: 2^53 minor units are the most"),
            ("trait.x > 9007199254740992", 11, "this number is too large: 2^53 is the most"),
        ],
    )
    def test_what_cannot_be_understood_is_told_with_its_place(self, text: str, column: int, told: str) -> None:
        assert (column, told) in faults(text)

    def test_all_that_is_wrong_is_told_at_once(self) -> None:
        found = faults("order.count > 2 or cart.value_minor > 3 or trait.x == 7d")
        assert [column for column, _ in found] == [1, 37, 52]
        assert [column for column, _ in faults('trait.x = "a" # b')] == [9, 11, 13, 15]

    def test_what_is_wrong_is_told_once(self) -> None:
        assert refusal("nope + 1 > 3 and 2 < 3") == "unknown name 'nope'"
        assert refusal("min(nope, 7d) / 2 == 'x'") == "unknown name 'nope'"

    def test_a_condition_is_not_longer_than_2000_characters(self) -> None:
        text = "trait.x == '" + "a" * (MOST_CHARACTERS - 13) + "'"
        assert not parse(text, NAMES).holds(found_in())
        assert refusal(text + " ") == "a condition has at most 2,000 characters, not 2,001"

    @pytest.mark.parametrize(
        ("opening", "middle", "closing"),
        [("(", "trait.x", ")"), ("not ", "trait.x", ""), ("floor(", "trait.x", ") > 0"), ("- ", "trait.x", " > 0")],
    )
    def test_a_condition_is_nested_40_deep_at_most(self, opening: str, middle: str, closing: str) -> None:
        last = ")" if closing.startswith(")") else ""

        def nested(depth: int) -> str:
            return opening * depth + middle + last * depth + closing.removeprefix(last)

        assert parse(nested(MOST_DEPTH), NAMES).names == (middle,)
        ((column, told),) = faults(nested(MOST_DEPTH + 1))
        assert told == "this is nested more than 40 deep"
        assert 1 + len(opening) * MOST_DEPTH <= column <= len(opening) * (MOST_DEPTH + 1)

    def test_nor_are_lists(self) -> None:
        assert "this is nested more than 40 deep" in [told for _, told in faults("1 in " + "[" * 41 + "]" * 41)]

    @pytest.mark.parametrize(("joint", "is_true"), [(" or ", True), (" and ", True), ("+", False), ("*", False)])
    def test_a_long_one_is_no_deeper_than_a_short_one(self, joint: str, is_true: bool) -> None:
        many = joint.join(["trait.x"] * 150)
        text = many if is_true else f"{many} > 0"
        assert parse(text, NAMES).holds({"trait.x": True}.get) is is_true


PIECES = st.sampled_from(
    [
        "and", "or", "not", "==", "!=", "<", "<=", ">", ">=", "in", "contains", "is", "missing", "+", "-", "*", "/",
        "(", ")", "[", "]", ",", "true", "false", "floor(", "min(", "max(",
        "orders.count", "trait.x", "stage", "cart.value_minor", "recency.days", "nope", "1", "2.5", "30 EUR", "7d",
        "'a'", "''", "'", "=", ".", "\n", "é", "1" * 400, "9d9",
    ]
)  # fmt: skip
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64), st.floats(allow_nan=False), st.text(max_size=3),
    st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)), max_size=3),
)  # fmt: skip


def read(text: str) -> tuple[Condition | None, tuple[Fault, ...]]:
    try:
        return parse(text, NAMES), ()
    except DeclarationError as error:
        return None, error.faults


@given(st.one_of(st.lists(PIECES, max_size=30).map(" ".join), st.text(max_size=60)), VALUES, VALUES)
def test_nothing_is_raised_but_what_says_so(text: str, one: Value, other: Value) -> None:
    condition, refused = read(text)
    if condition is None:
        assert refused
        assert all(1 <= column <= len(text) + 1 and told for column, told, _ in refused)
    else:
        known = {"trait.x": one, "orders.count": other, "stage": other, "cart.value_minor": other, "recency.days": one}
        assert condition.holds(known.get) in (True, False)
        assert str(parse(str(condition), NAMES)) == str(condition)


# ---- segments --------------------------------------------------------------------------------------------------------


CONFIG: Json = {
    "v": 1, "shop": {"currency": "EUR"},
    "segments": {"vip": "orders.revenue_minor >= 500 EUR", "de": "trait.country == 'DE'", "all": "1 == 1"},
}  # fmt: skip


class TestDeclared:
    def test_somebody_is_in_the_segments_whose_conditions_hold(self) -> None:
        declared = Declared.from_config(CONFIG)
        assert declared.segments(of({"trait.country": "DE", "orders.revenue_minor": 50_000})) == ["all", "de", "vip"]
        assert declared.segments(of({"orders.revenue_minor": 49_999})) == ["all"]

    def test_it_says_which_names_it_asks_for(self) -> None:
        assert Declared.from_config(CONFIG).names == ("orders.revenue_minor", "trait.country")

    def test_a_configuration_without_segments_declares_none(self) -> None:
        for config in ({"v": 1}, {"v": 1, "segments": {}}, {"v": 1, "segments": None}):
            assert Declared.from_config(config).segments(found_in()) == []

    def test_all_that_is_wrong_is_told_with_its_segment(self) -> None:
        with pytest.raises(DeclarationError) as refused:
            Declared.from_config({"v": 1, "segments": {"b": "nope > 1 and neither", "a": "1 <"}})
        assert str(refused.value) == (
            "segments.a: column 4: the condition ends too early; segments.b: column 1: unknown name 'nope'; "
            "segments.b: column 14: unknown name 'neither'"
        )

    @pytest.mark.parametrize("config", [{}, {"v": 3, "segments": {}}, {"v": "1"}])
    def test_another_version_is_refused(self, config: Json) -> None:
        with pytest.raises(DeclarationError, match="cannot be read, only of 1 and 2"):
            Declared.from_config(config)


def test_names_and_units_are_those_of_the_catalogue() -> None:
    features = {
        name: unit for name, unit in NAMES.items() if not name.startswith(("score.", "stage", "cluster", "trait."))
    }
    assert features == {name: feature.unit for name, feature in CATALOGUE.items()}
    assert NAMES["stage"].removeprefix(ONE_OF).split() == list(dict.fromkeys((*STAGES, CHURN)))
    assert conditions.NO_CURRENCY == aggregates.NO_CURRENCY


def test_hash_seeds_change_nothing() -> None:
    program = (
        "from journey.conditions import *\n"
        "config = {'v': 1, 'segments': {'b': 'trait.x == 1', 'a': 'trait.y in [1, 2] or stage == \\'use\\''}}\n"
        "declared = Declared.from_config(config)\n"
        "print(declared.names, declared.segments({'trait.x': 1, 'trait.y': 2}.get))\n"
        "try: parse('nope > 30d and order.count == \\'a\\' and stage == \\'us\\' and trait.x < 1 EUT', NAMES)\n"
        "except DeclarationError as error: print(error)\n"
        "try: parse('nope > 30d and order.count == \\'a\\' and stage == \\'us\\'', NAMES)\n"
        "except DeclarationError as error: print(error)\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(told) == 1
    assert b"['a', 'b']" in told.pop()


def test_a_condition_asks_only_for_its_names() -> None:
    asked: list[str] = []

    def look(name: str) -> Value:
        asked.append(name)
        return 1

    condition: Condition = parse("cart.value_minor > 1 EUR and trait.x == 1", NAMES)
    answer: Callable[[Lookup], bool] = condition.holds
    assert not answer(look)
    assert asked == ["cart.value_minor", "cart.currency"]

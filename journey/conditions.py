"""Conditions on a customer, as the shop's files write them, and the segments declared by them.

``trait.country == 'DE' and orders.revenue_minor >= 500 EUR`` is read once,
checked against the names there are and their units, and then asked of
customers. A declared segment is a name for such a condition: demographic and
geographic ones are conditions on traits, psychographic ones on what people
told in surveys, behavioural ones on features.

The language::

    or, and, not, == != < <= > >=, in, contains, is [not] missing, + -, * /, -x, floor(x) min(x, y) max(x, y)

from what binds least to what binds most. Values are names, numbers,
``'text'`` (a quote in it is doubled), ``30 EUR``, ``7d`` (s m h d), ``true``,
``false`` and lists of these in brackets. What is missing compares false, so
``not (trait.age < 30)`` holds for somebody whose age is not known;
``trait.age >= 30`` does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from journey.errors import JourneyError
from journey.events import DAY, GREATEST, HOUR, MINOR_DIGITS, MINUTE, SECOND
from journey.models.base import rounded

Value = bool | int | float | str | list[Any] | None  # of a name; None is "no data"
Lookup = Callable[[str], Value]

CONFIG_VERSIONS: Final = (1, 2)  # 2: items that cannot be had; a program that knows of none refuses it
MOST_CHARACTERS: Final = 2_000
MOST_DEPTH: Final = 40
MOST_DAYS: Final = 36_600

# ---- what a name may be ----------------------------------------------------------------------------------------------

MINOR: Final = "minor units"
DAYS: Final = "days"
TEXT_UNIT: Final = "text"
CURRENCY_UNIT: Final = "ISO 4217"
TRAIT_UNIT: Final = "any"  # whatever people or the shop's programs told
ONE_OF: Final = "one of "  # begins a unit that lists the only texts there are
NO_CURRENCY: Final = "XXX"  # ISO 4217: none was told
CURRENCIES: Final = frozenset(
    code
    for codes in (
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY",
        "COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS",
        "INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR",
        "MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD",
        "SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
        " ".join(MINOR_DIGITS),
    )
    for code in codes.split()
)

# every name and its unit. The catalogue of features lies above this module; a test holds the two together.
NAMES: Final[Mapping[str, str]] = {
    "events.count": "events",
    "clicks.count": "events",
    "carts.count": "events",
    "first_seen.days": DAYS,
    "recency.days": DAYS,
    "activity.clicks_30d": "events",
    "activity.carts_30d": "events",
    "session.count": "sessions",
    "session.events": "events",
    "session.views": "views",
    "cart.lines": "items",
    "cart.value_minor": MINOR,
    "orders.count": "orders",
    "orders.recency_days": DAYS,
    "orders.gap_days": DAYS,
    "orders.overdue": "own gaps",
    "orders.frequency_30d": "orders",
    "orders.frequency_90d": "orders",
    "orders.revenue_minor": MINOR,
    "orders.currency": CURRENCY_UNIT,
    "orders.mean_minor": MINOR,
    "score.churn": "probability",
    "score.intent": "probability",
    "score.clv": "major units",
    "score.spend": "major units",
    "stage": ONE_OF + "awareness interest evaluation purchase use loyalty churn",
    "cluster": TEXT_UNIT,
    "trait.*": TRAIT_UNIT,  # all that begin so
}

_NUMBER: Final = "a number"
_MONEY: Final = "an amount of money"
_TIME: Final = "a duration"
_TEXT: Final = "a text"
_TRUTH: Final = "true or false"
_LIST: Final = "a list"
_ANY: Final = "a trait"
_UNKNOWN: Final = ""  # of what is wrong already: said once
_HINTS: Final = {_MONEY: ": write an amount with its currency, such as 30 EUR", _TIME: ": write a duration, such as 7d"}


def _kind_of(unit: str) -> str:
    if unit == MINOR:
        return _MONEY
    if unit == DAYS:
        return _TIME
    if unit in (TEXT_UNIT, CURRENCY_UNIT) or unit.startswith(ONE_OF):
        return _TEXT
    return _ANY if unit == TRAIT_UNIT else _NUMBER


def _words_of(unit: str) -> Sequence[str]:
    """Return the only texts that a name of this unit can be; none when it may be any."""
    if unit == CURRENCY_UNIT:
        return (*sorted(CURRENCIES), NO_CURRENCY)
    return unit[len(ONE_OF) :].split() if unit.startswith(ONE_OF) else ()


def unit_of(name: str, names: Mapping[str, str]) -> str | None:
    """Return the unit of a name, or None where there is no such name.

    >>> unit_of("trait.country", {"trait.*": "any"}), unit_of("trait", {"trait.*": "any"})
    ('any', None)
    """
    if name in names:
        return None if name.endswith("*") else names[name]
    return names.get(name.partition(".")[0] + ".*") if "." in name else None


def nearest(name: str, names: Iterable[str]) -> str:
    """Return words that name the likeliest of these names, to be put behind a refusal; nothing when none is like it.

    >>> nearest("order.count", ["orders.count", "trait.*"])
    ", did you mean 'orders.count'?"
    """
    first, dot, rest = name.partition(".")
    known = sorted({f"{one[:-1]}{rest}" if one.endswith("*") and dot and rest else one for one in names})
    near = get_close_matches(name, [one for one in known if not one.endswith("*")], n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near and first else ""


# ---- what is refused -------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """One thing that is wrong: at which character of the condition (from 1), what, and in which segment."""

    column: int
    text: str
    where: str = ""

    def told(self) -> str:
        """Return it as a line."""
        return f"{self.where + ': ' if self.where else ''}column {self.column}: {self.text}"


class DeclarationError(JourneyError):
    """A condition or a configuration cannot be read: the one in force stays. ``faults`` has all that is wrong."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(fault.told() for fault in faults))


class _StopError(Exception):
    """What follows cannot be understood: nothing more is read of this condition."""


# ---- values ----------------------------------------------------------------------------------------------------------


class Amount(NamedTuple):
    """Money: minor units, and their currency where it was told."""

    minor: int | float
    currency: str | None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bounded(value: Any) -> Any:
    """Return a number, or None when it is none: not finite, or a whole one beyond 2^53."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if -GREATEST <= value <= GREATEST else None


def _sort_of(value: Any) -> str:
    if isinstance(value, bool):
        return _TRUTH
    if isinstance(value, Amount):
        return _MONEY
    if isinstance(value, int | float):
        return _NUMBER
    return _TEXT if isinstance(value, str) else _LIST


def _same(left: Any, right: Any) -> bool:
    """Tell whether two values are the same; ``1`` and ``true`` are not."""
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    sort = _sort_of(left)
    if left is None or right is None or sort != _sort_of(right):
        return False
    if sort == _MONEY:
        return _share_currency(left, right) and bool(left.minor == right.minor)
    if sort == _LIST:
        return len(left) == len(right) and all(_same(one, other) for one, other in zip(left, right, strict=True))
    return bool(left == right)


def _share_currency(left: Amount, right: Amount) -> bool:
    """Amounts of two currencies have nothing to do with each other; one that was not told is the other's."""
    return left.currency is None or right.currency is None or left.currency == right.currency


def _compared(op: str, left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    if isinstance(left, Amount) and isinstance(right, Amount):
        if not _share_currency(left, right):
            return False
        left, right = left.minor, right.minor
    if op == "==":
        return _same(left, right)
    if op == "!=":
        return not _same(left, right)
    if isinstance(left, str) != isinstance(right, str):
        return False
    if not isinstance(left, str) and not (_is_number(left) and _is_number(right)):
        return False
    if op == "<":
        return bool(left < right)
    if op == "<=":
        return bool(left <= right)
    if op == ">":
        return bool(left > right)
    return bool(left >= right)


def _contains(container: Any, wanted: Any) -> bool:
    if isinstance(container, str):
        return isinstance(wanted, str) and wanted in container
    return isinstance(container, list) and any(_same(one, wanted) for one in container)


def _calculated(op: str, left: Any, right: Any) -> Any:
    """Return a sum, difference, product or quotient; None when it is not a number."""
    currency: str | None = None
    is_money = False
    if isinstance(left, Amount) and isinstance(right, Amount):
        if not _share_currency(left, right):
            return None
        currency, is_money = left.currency or right.currency, op != "/"
        left, right = left.minor, right.minor
    elif isinstance(left, Amount):
        currency, is_money, left = left.currency, True, left.minor
    elif isinstance(right, Amount):
        currency, is_money, right = right.currency, True, right.minor
    if not _is_number(left) or not _is_number(right):
        return None
    if op == "+":
        result = left + right
    elif op == "-":
        result = left - right
    elif op == "*":
        result = left * right
    elif right == 0:
        return None
    else:
        result = left / right
    result = _bounded(result)
    return result if result is None or not is_money else Amount(result, currency)


def _whole(value: Any) -> Any:
    if isinstance(value, Amount):
        return Amount(math.floor(value.minor), value.currency)
    if not _is_number(value) or _bounded(value) is None:
        return None
    return _bounded(math.floor(value))


def _extreme(values: list[Any], *, is_least: bool) -> Any:
    """Return the least or the greatest of numbers or amounts; None when one of them is missing."""
    found = values[0]
    for value in values:
        if isinstance(value, Amount) and isinstance(found, Amount):
            if not _share_currency(value, found):
                return None
            is_less, is_more = value.minor < found.minor, value.minor > found.minor
        elif _is_number(value) and _is_number(found):
            is_less, is_more = value < found, value > found
        else:
            return None
        if is_less if is_least else is_more:
            found = value
    return found


# ---- the parts of a condition ----------------------------------------------------------------------------------------

_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _MINUS, _ATOM = range(1, 9)  # what binds least ... most


class _Part:
    """A part of a condition: what kind of value it has, and how tightly it binds."""

    def __init__(self, kind: str, rank: int, column: int) -> None:
        self.kind, self.rank, self.column = kind, rank, column

    def value(self, lookup: Lookup) -> Any:
        """Return its value for somebody; None is "no data"."""
        raise NotImplementedError

    def text(self) -> str:
        """Return it as it is written."""
        raise NotImplementedError

    def within(self, rank: int) -> str:
        """Return it as it is written among what binds like this, in brackets if need be."""
        return self.text() if self.rank >= rank else f"({self.text()})"


class _Literal(_Part):
    def __init__(self, kind: str, column: int, value: Any, text: str) -> None:
        super().__init__(kind, _ATOM, column)
        self.known, self.written = value, text

    def value(self, lookup: Lookup) -> Any:
        return self.known

    def text(self) -> str:
        return self.written


class _Name(_Part):
    def __init__(self, kind: str, column: int, name: str, unit: str) -> None:
        super().__init__(kind, _ATOM, column)
        self.name, self.unit = name, unit
        group = name.rpartition(".")[0]
        self.currency = f"{group}.currency" if kind == _MONEY and group else ""

    def value(self, lookup: Lookup) -> Any:
        found = lookup(self.name)
        if self.kind == _ANY or found is None:
            return found
        if self.kind == _MONEY:
            currency: Any = lookup(self.currency) if self.currency else None
            minor = _bounded(found) if _is_number(found) else None
            is_told = isinstance(currency, str) and currency != NO_CURRENCY
            return None if minor is None else Amount(minor, currency if is_told else None)
        return found

    def text(self) -> str:
        return self.name


class _List(_Part):
    def __init__(self, column: int, parts: list[_Part]) -> None:
        super().__init__(_LIST, _ATOM, column)
        self.parts = parts
        literals = [part.known for part in parts if isinstance(part, _Literal)]
        self.known: list[Any] | None = literals if len(literals) == len(parts) else None

    def value(self, lookup: Lookup) -> Any:
        return [part.value(lookup) for part in self.parts] if self.known is None else self.known

    def text(self) -> str:
        return f"[{', '.join(part.text() for part in self.parts)}]"


class _Call(_Part):
    def __init__(self, kind: str, column: int, name: str, parts: list[_Part]) -> None:
        super().__init__(kind, _ATOM, column)
        self.name, self.parts = name, parts

    def value(self, lookup: Lookup) -> Any:
        values = [part.value(lookup) for part in self.parts]
        return _whole(values[0]) if self.name == "floor" else _extreme(values, is_least=self.name == "min")

    def text(self) -> str:
        return f"{self.name}({', '.join(part.text() for part in self.parts)})"


class _Negative(_Part):
    def __init__(self, kind: str, column: int, part: _Part) -> None:
        super().__init__(kind, _MINUS, column)
        self.part = part

    def value(self, lookup: Lookup) -> Any:
        found = self.part.value(lookup)
        if isinstance(found, Amount):
            return Amount(-found.minor, found.currency)
        return -found if _is_number(found) else None

    def text(self) -> str:
        return f"-{self.part.within(_MINUS)}"


class _Chain(_Part):
    """Sums and differences, or products and quotients, from left to right: a long one is no deeper than a short one."""

    def __init__(self, kind: str, rank: int, column: int, first: _Part, rest: list[tuple[str, _Part]]) -> None:
        super().__init__(kind, rank, column)
        self.first, self.rest = first, rest

    def value(self, lookup: Lookup) -> Any:
        result = self.first.value(lookup)
        for op, part in self.rest:
            result = _calculated(op, result, part.value(lookup))
        return result

    def text(self) -> str:
        rank = self.rank + 1
        return self.first.within(rank) + "".join(f" {op} {part.within(rank)}" for op, part in self.rest)


class _Compare(_Part):
    def __init__(self, column: int, op: str, left: _Part, right: _Part) -> None:
        super().__init__(_TRUTH, _COMPARE, column)
        self.op, self.left, self.right = op, left, right

    def value(self, lookup: Lookup) -> Any:
        left, right = self.left.value(lookup), self.right.value(lookup)
        if self.op == "in":
            return left is not None and _contains(right, left)
        if self.op == "contains":
            return right is not None and _contains(left, right)
        return _compared(self.op, left, right)

    def text(self) -> str:
        return f"{self.left.within(_SUM)} {self.op} {self.right.within(_SUM)}"


class _Missing(_Part):
    def __init__(self, column: int, part: _Part, *, is_missing: bool) -> None:
        super().__init__(_TRUTH, _COMPARE, column)
        self.part, self.is_missing = part, is_missing

    def value(self, lookup: Lookup) -> Any:
        return (self.part.value(lookup) is None) == self.is_missing

    def text(self) -> str:
        return f"{self.part.within(_SUM)} is {'' if self.is_missing else 'not '}missing"


class _Not(_Part):
    def __init__(self, column: int, part: _Part) -> None:
        super().__init__(_TRUTH, _NOT, column)
        self.part = part

    def value(self, lookup: Lookup) -> Any:
        return self.part.value(lookup) is not True

    def text(self) -> str:
        return f"not {self.part.within(_NOT)}"


class _Junction(_Part):
    def __init__(self, rank: int, column: int, parts: list[_Part]) -> None:
        super().__init__(_TRUTH, rank, column)
        self.parts = parts

    def value(self, lookup: Lookup) -> Any:
        decides = self.rank == _OR
        for part in self.parts:
            if (part.value(lookup) is True) == decides:
                return decides
        return not decides

    def text(self) -> str:
        word = " or " if self.rank == _OR else " and "
        return word.join(part.within(self.rank + 1) for part in self.parts)


# ---- words -----------------------------------------------------------------------------------------------------------

_NAME_WORD, _NUMBER_WORD, _MONEY_WORD, _TIME_WORD, _TEXT_WORD, _SIGN, _END = (
    "name", "number", "money", "duration", "text", "sign", "end",
)  # fmt: skip
_KEYWORDS: Final = frozenset(("and", "or", "not", "in", "contains", "is", "missing", "true", "false"))
_FUNCTIONS: Final = ("floor", "max", "min")
_SIGNS: Final = ("==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "(", ")", "[", "]", ",")
_COMPARISONS: Final = frozenset(("==", "!=", "<", "<=", ">", ">=", "in", "contains"))
_SPANS: Final = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_DIGITS: Final = frozenset("0123456789")
_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_NAME_CHARACTERS: Final = _LETTERS | _DIGITS


class _Word(NamedTuple):
    kind: str
    column: int  # from 1
    text: str  # as it is written, in one way
    value: Any


class _Reader:
    """Cuts a condition into words."""

    def __init__(self, source: str) -> None:
        self.source, self.at = source, 0
        self.faults: list[Fault] = []

    def words(self) -> list[_Word]:
        """Return the words, and an end."""
        source = self.source
        found: list[_Word] = []
        while True:
            while self.at < len(source) and source[self.at] in " \t\r\n":
                self.at += 1
            if self.at == len(source):
                return [*found, _Word(_END, len(source) + 1, "the end", None)]
            word = self._word(source[self.at])
            if word is not None:
                found.append(word)

    def _word(self, first: str) -> _Word | None:
        source, start = self.source, self.at
        if first in _DIGITS:
            return self._number()
        if first in _LETTERS:
            name = self._run(_NAME_CHARACTERS)
            while self.at + 1 < len(source) and source[self.at] == "." and source[self.at + 1] in _NAME_CHARACTERS:
                self.at += 1
                name += "." + self._run(_NAME_CHARACTERS)
            return _Word(_SIGN if name in _KEYWORDS else _NAME_WORD, start + 1, name, None)
        if first == "'":
            return self._quoted()
        for sign in _SIGNS:
            if source.startswith(sign, start):
                self.at += len(sign)
                return _Word(_SIGN, start + 1, sign, None)
        self.at += 1
        if first == '"':
            self._fault(start, "texts stand in single quotes, such as 'DE'")
        elif first == "=":
            self._fault(start, "write == to compare")
        else:
            self._fault(start, f"{first!r} means nothing here")
        return None

    def _fault(self, start: int, text: str) -> None:
        self.faults.append(Fault(start + 1, text))

    def _run(self, of: frozenset[str]) -> str:
        source, start = self.source, self.at
        while self.at < len(source) and source[self.at] in of:
            self.at += 1
        return source[start : self.at]

    def _quoted(self) -> _Word | None:
        source, start, text = self.source, self.at, ""
        while True:
            end = source.find("'", self.at + 1)
            if end < 0:
                self.at = len(source)
                self._fault(start, "this text has no end: a quote is missing")
                return None
            text += source[self.at + 1 : end]
            self.at = end + 1
            if not source.startswith("'", self.at):
                break
            text += "'"
        return _Word(_TEXT_WORD, start + 1, "'" + text.replace("'", "''") + "'", text)

    def _number(self) -> _Word | None:
        source, start = self.source, self.at
        text = self._run(_DIGITS)
        if source.startswith(".", self.at) and source[self.at + 1 : self.at + 2] in _DIGITS:
            self.at += 1
            text += "." + self._run(_DIGITS)
        unit = self._run(_NAME_CHARACTERS)
        if unit:
            return self._duration(start, text, unit)
        after = self.at
        self._run(frozenset(" "))
        code = self._run(_NAME_CHARACTERS)
        if after < self.at - len(code) and len(code) == 3 and code.isupper():
            return self._money(start, text, code)
        self.at = after
        value = float(text) if "." in text else int(text)
        if value > GREATEST:
            self._fault(start, "this number is too large: 2^53 is the most")
            return None
        return _Word(_NUMBER_WORD, start + 1, text, value)

    def _duration(self, start: int, text: str, unit: str) -> _Word | None:
        ms = _SPANS.get(unit)
        if ms is None:
            what = "write a space before a currency" if unit in CURRENCIES else "durations end in s, m, h or d"
            self._fault(start, f"{text + unit!r} is no value: {what}")
        elif "." in text:
            self._fault(start, f"write a whole number of {unit}")
        elif int(text) * ms > MOST_DAYS * DAY:
            self._fault(start, f"this duration is too long: {MOST_DAYS}d is the most")
        else:
            days, rest = divmod(int(text) * ms, DAY)
            # features are rounded days: so are durations, or nothing would be exactly an hour ago
            value = rounded(int(text) * ms / DAY) if rest else days
            if value or not rest:
                return _Word(_TIME_WORD, start + 1, text + unit, value)
            self._fault(start, "features do not tell durations so short: 5s is the least")
        return None

    def _money(self, start: int, text: str, code: str) -> _Word | None:
        if code not in CURRENCIES:
            self._fault(self.at - len(code), f"{code!r} is no currency{nearest(code, CURRENCIES)}")
            return None
        digits = MINOR_DIGITS.get(code, 2)
        whole, _, part = text.partition(".")
        if len(part) > digits:
            self._fault(start, f"amounts in {code} have {digits or 'no'} digits after the point")
            return None
        minor = int(whole + part.ljust(digits, "0"))
        if minor > GREATEST:
            self._fault(start, "this amount is too large: 2^53 minor units are the most")
            return None
        return _Word(_MONEY_WORD, start + 1, f"{text} {code}", Amount(minor, code))


# ---- from words to a condition ---------------------------------------------------------------------------------------


class _Parser:
    """Puts words together, by what binds least first."""

    def __init__(self, words: list[_Word], names: Mapping[str, str]) -> None:
        self.words, self.names = words, names
        self.at = self.depth = 0
        self.faults: list[Fault] = []
        self.used: dict[str, str] = {}  # name: unit

    def condition(self) -> _Part:
        part = self._any_of()
        word = self.words[self.at]
        if word.kind != _END:
            self._stop(word, f"{word.text!r} is not expected here")
        self._truth(part)
        return part

    # -- words

    def _stop(self, word: _Word, text: str) -> None:
        self.faults.append(Fault(word.column, text))
        raise _StopError

    def _takes(self, *signs: str) -> _Word | None:
        word = self.words[self.at]
        if word.kind != _SIGN or word.text not in signs:
            return None
        self.at += 1
        return word

    def _expects(self, sign: str) -> None:
        word = self.words[self.at]
        if self._takes(sign) is None:
            self._stop(word, f"{sign!r} is expected here, not {word.text!r}")

    def _deeper(self, word: _Word) -> None:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            self._stop(word, f"this is nested more than {MOST_DEPTH} deep")

    # -- kinds

    def _fault(self, column: int, text: str) -> None:
        self.faults.append(Fault(column, text))

    def _truth(self, part: _Part) -> None:
        """A condition, or a trait that may be true."""
        if part.kind not in (_TRUTH, _ANY, _UNKNOWN):
            self._fault(part.column, f"this is {part.kind}, not a condition: compare it with something")

    def _united(self, column: int, left: str, right: str, what: str) -> str:
        """Return the kind of two values that are put together; they have to be of one unit."""
        if left == right or right == _UNKNOWN:
            return left
        if left in (_ANY, _UNKNOWN) and right not in (_MONEY, _TIME):
            return right
        if right == _ANY and left not in (_MONEY, _TIME):
            return left
        if _UNKNOWN in (left, right):
            return _UNKNOWN
        hint = ""
        if _ANY in (left, right):
            hint = ": what a trait counts in is not known"
        elif _NUMBER in (left, right):
            hint = _HINTS.get(left, "") or _HINTS.get(right, "")
        self._fault(column, f"{left} and {right} cannot be {what}{hint}")
        return _UNKNOWN

    def _countable(self, part: _Part) -> str:
        """Return the kind of what is calculated with: a trait is taken for a number."""
        if part.kind in (_TEXT, _TRUTH, _LIST):
            self._fault(part.column, f"{part.kind} is nothing to calculate with")
            return _UNKNOWN
        return _NUMBER if part.kind == _ANY else part.kind

    def _known_words(self, name: _Part, other: _Part) -> None:
        """A name that can only be one of some texts is compared with one of them."""
        if not isinstance(name, _Name):
            return
        known = _words_of(name.unit)
        for part in other.parts if isinstance(other, _List) else [other]:
            if known and isinstance(part, _Literal) and isinstance(part.known, str) and part.known not in known:
                self._fault(part.column, f"{name.name} is never {part.known!r}{nearest(part.known, known)}")

    # -- what binds least ... most

    def _any_of(self) -> _Part:
        return self._junction(_OR, "or", self._all_of)

    def _all_of(self) -> _Part:
        return self._junction(_AND, "and", self._negated)

    def _junction(self, rank: int, word: str, read: Callable[[], _Part]) -> _Part:
        parts = [read()]
        while self._takes(word) is not None:
            parts.append(read())
        if len(parts) == 1:
            return parts[0]
        for part in parts:
            self._truth(part)
        return _Junction(rank, parts[0].column, parts)

    def _negated(self) -> _Part:
        word = self._takes("not")
        if word is None:
            return self._comparison()
        self._deeper(word)
        part = self._negated()
        self.depth -= 1
        self._truth(part)
        return _Not(word.column, part)

    def _comparison(self) -> _Part:
        left = self._sum()
        word = self._takes("is", *_COMPARISONS)
        if word is None:
            return left
        found: _Part
        if word.text == "is":
            is_missing = self._takes("not") is None
            self._expects("missing")
            found = _Missing(left.column, left, is_missing=is_missing)
        else:
            right = self._sum()
            self._check_comparison(word, left, right)
            found = _Compare(left.column, word.text, left, right)
        again = self.words[self.at]
        if again.kind == _SIGN and (again.text in _COMPARISONS or again.text == "is"):
            self._stop(again, "comparisons do not follow one another: join them with and")
        return found

    def _check_comparison(self, word: _Word, left: _Part, right: _Part) -> None:
        op, column = word.text, word.column
        if op in ("in", "contains"):
            container, wanted = (right, left) if op == "in" else (left, right)
            if container.kind not in (_LIST, _TEXT, _ANY, _UNKNOWN):
                self._fault(container.column, f"this is {container.kind}, which contains nothing")
                return
            if wanted.kind == _LIST:
                self._fault(wanted.column, "a list is not looked for: ask for one value at a time")
                return
            # what is in a list is of one kind: the first one's
            for part in container.parts[:1] if isinstance(container, _List) else [container]:
                self._united(part.column, part.kind, wanted.kind, "compared")
            if isinstance(container, _List):
                self._known_words(wanted, container)
            return
        if _LIST in (left.kind, right.kind):
            self._fault(column, "a list is not compared as a whole: use in or contains")
            return
        kind = self._united(column, left.kind, right.kind, "compared")
        if kind == _TRUTH and op not in ("==", "!="):
            self._fault(column, f"true and false are not ordered: {op!r} cannot compare them")
        self._known_words(left, right)
        self._known_words(right, left)

    def _sum(self) -> _Part:
        return self._chain(_SUM, ("+", "-"), self._product)

    def _product(self) -> _Part:
        return self._chain(_PRODUCT, ("*", "/"), self._signed)

    def _chain(self, rank: int, signs: tuple[str, str], read: Callable[[], _Part]) -> _Part:
        first = read()
        rest: list[tuple[str, _Part]] = []
        kind = first.kind
        while (word := self._takes(*signs)) is not None:
            part = read()
            left = self._countable(first) if not rest else kind
            right = self._countable(part)
            if rank == _SUM:
                kind = self._united(word.column, left, right, "added" if word.text == "+" else "subtracted")
            else:
                kind = self._scaled(word, left, right)
            rest.append((word.text, part))
        return _Chain(kind, rank, first.column, first, rest) if rest else first

    def _scaled(self, word: _Word, left: str, right: str) -> str:
        if _UNKNOWN in (left, right):
            return _UNKNOWN
        if right == _NUMBER:
            return left
        if word.text == "/" and left == right:
            return _NUMBER
        if word.text == "*" and left == _NUMBER:
            return right
        what = "multiplied" if word.text == "*" else "divided"
        self._fault(word.column, f"{left} and {right} cannot be {what}")
        return _UNKNOWN

    def _signed(self) -> _Part:
        word = self._takes("-")
        if word is None:
            return self._atom()
        self._deeper(word)
        part = self._signed()
        self.depth -= 1
        return _Negative(self._countable(part), word.column, part)

    def _atom(self) -> _Part:
        word = self.words[self.at]
        self.at += 1
        if word.kind == _NUMBER_WORD:
            return _Literal(_NUMBER, word.column, word.value, word.text)
        if word.kind == _MONEY_WORD:
            return _Literal(_MONEY, word.column, word.value, word.text)
        if word.kind == _TIME_WORD:
            return _Literal(_TIME, word.column, word.value, word.text)
        if word.kind == _TEXT_WORD:
            return _Literal(_TEXT, word.column, word.value, word.text)
        if word.kind == _NAME_WORD:
            return self._call(word) if self._takes("(") is not None else self._name(word)
        if word.text in ("true", "false"):
            return _Literal(_TRUTH, word.column, word.text == "true", word.text)
        if word.text == "(":
            self._deeper(word)
            part = self._any_of()
            self._expects(")")
            self.depth -= 1
            return part
        if word.text == "[":
            return _List(word.column, self._parts(word, "]"))
        self.at -= 1
        told = "the condition ends too early" if word.kind == _END else f"a value is expected here, not {word.text!r}"
        self._stop(word, told)
        raise _StopError

    def _parts(self, word: _Word, closing: str) -> list[_Part]:
        """Return what stands in brackets, with commas between."""
        self._deeper(word)
        parts: list[_Part] = []
        if self._takes(closing) is None:
            parts.append(self._sum())
            while self._takes(",") is not None:
                parts.append(self._sum())
            self._expects(closing)
        self.depth -= 1
        if closing == "]":
            for part in parts:
                if part.kind == _LIST:
                    self._fault(part.column, "lists hold no lists")
                self._united(part.column, parts[0].kind, part.kind, "in one list")
        return parts

    def _call(self, word: _Word) -> _Part:
        if word.text not in _FUNCTIONS:
            self._fault(word.column, f"unknown function {word.text!r}{nearest(word.text, _FUNCTIONS)}")
        parts = self._parts(word, ")")
        if word.text not in _FUNCTIONS:
            return _Call(_UNKNOWN, word.column, word.text, parts)
        if not parts or (word.text == "floor" and len(parts) > 1):
            wanted = "one value" if word.text == "floor" else "values, with commas between"
            self._fault(word.column, f"{word.text} takes {wanted}")
            return _Call(_UNKNOWN, word.column, word.text, parts)
        kind = self._countable(parts[0])
        for part in parts[1:]:
            kind = self._united(part.column, kind, self._countable(part), "compared")
        return _Call(kind, word.column, word.text, parts)

    def _name(self, word: _Word) -> _Part:
        unit = unit_of(word.text, self.names)
        if unit is None:
            self._fault(word.column, f"unknown name {word.text!r}{nearest(word.text, self.names)}")
            return _Name(_UNKNOWN, word.column, word.text, "")
        self.used[word.text] = unit
        return _Name(_kind_of(unit), word.column, word.text, unit)


class Condition:
    """Something that holds of a customer or does not. ``names`` are those it asks for, sorted."""

    def __init__(self, root: _Part, names: tuple[str, ...]) -> None:
        self._root, self.names = root, names

    def holds(self, lookup: Lookup) -> bool:
        """Tell whether it holds of somebody.

        ``lookup`` gives the value of a name, None where there is none. For an
        amount such as ``cart.value_minor`` it is asked for ``cart.currency``
        too: an amount of another currency compares as one that is missing,
        one whose currency is not known as one of the currency it is compared
        with.
        """
        return self._root.value(lookup) is True

    def __str__(self) -> str:
        return self._root.text()


def parse(text: str, names: Mapping[str, str]) -> Condition:
    """Read a condition.

    Parameters
    ----------
    text
        At most 2,000 characters, nested at most 40 deep.
    names
        Each name and its unit: ``minor units`` compares with amounts such as
        ``30 EUR``, ``days`` with durations, ``text``, ``ISO 4217`` and ``one
        of a b`` with texts, ``any`` with whatever has no unit, all else with
        numbers. ``trait.*`` stands for all that begins with ``trait.``.

    Raises
    ------
    DeclarationError
        It cannot be read; of what can be understood, all that is wrong.

    Examples
    --------
    >>> names = {"orders.revenue": "minor units", "trait.*": "any"}
    >>> vip = parse("orders.revenue >= 500 EUR and not trait.staff", names)
    >>> vip.holds({"orders.revenue": 50000, "orders.currency": "EUR"}.get)
    True
    >>> parse("order.count > 2", {"orders.count": "orders"})
    Traceback (most recent call last):
    journey.conditions.DeclarationError: column 1: unknown name 'order.count', did you mean 'orders.count'?
    """
    if len(text) > MOST_CHARACTERS:
        raise DeclarationError([Fault(1, f"a condition has at most {MOST_CHARACTERS:,} characters, not {len(text):,}")])
    reader = _Reader(text)
    words = reader.words()
    if reader.faults:
        raise DeclarationError(reader.faults)
    parser = _Parser(words, names)
    try:
        root = parser.condition()
    except _StopError:
        root = None
    if root is None or parser.faults:
        raise DeclarationError(sorted(set(parser.faults)))
    return Condition(root, tuple(sorted(parser.used)))


# ---- declared segments -----------------------------------------------------------------------------------------------


class Declared:
    """What a configuration declares: segments, and items that cannot be had.

    ``names`` are those that the segments' conditions ask for, sorted.
    """

    def __init__(self, conditions: Mapping[str, Condition], unavailable: Iterable[str] = ()) -> None:
        self.unavailable = frozenset(unavailable)
        self.conditions = {name: conditions[name] for name in sorted(conditions)}
        self.names = tuple(sorted({asked for one in self.conditions.values() for asked in one.names}))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Declared:
        """Read of a configuration ``{"v": 2, "segments": {name: condition}, "unavailable": [item]}``.

        Raises
        ------
        DeclarationError
            A newer version, or conditions that cannot be read; all that is wrong.

        Examples
        --------
        >>> declared = Declared.from_config({"v": 1, "segments": {"berlin": "trait.city == 'Berlin'"}})
        >>> declared.segments({"trait.city": "Berlin"}.get)
        ['berlin']
        """
        if config.get("v") not in CONFIG_VERSIONS:
            known = " and ".join(map(str, CONFIG_VERSIONS))
            text = f"a configuration of version {config.get('v')!r:.20} cannot be read, only of {known}"
            raise DeclarationError([Fault(1, text)])
        unavailable = config.get("unavailable") or []
        if not isinstance(unavailable, list) or not all(isinstance(item, str) for item in unavailable):
            raise DeclarationError([Fault(1, "unavailable is no list of item ids")])
        conditions: dict[str, Condition] = {}
        faults: list[Fault] = []
        told: Mapping[str, str] = config.get("segments") or {}
        for name in sorted(told):
            try:
                conditions[name] = parse(told[name], NAMES)
            except DeclarationError as error:
                faults += [fault._replace(where=f"segments.{name}") for fault in error.faults]
        if faults:
            raise DeclarationError(faults)
        return cls(conditions, unavailable)

    def segments(self, lookup: Lookup) -> list[str]:
        """Return the names of the segments somebody is in, sorted."""
        return [name for name, condition in self.conditions.items() if condition.holds(lookup)]

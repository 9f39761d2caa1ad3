"""Why a visit may end in an order: a small Bayesian network of counts, which explains and never decides.

The graph is fixed by people, its tables are integer counts: the same rows in
any order give the same bytes. A probability is found by adding up all cases
(at most 4,096), never by drawing. Each node depends on its *parents*; a chain
in which each depends on the one before could not hold most of what is asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple

from journey.errors import BadRowError, BadSnapshotError
from journey.models.base import Row, State, check_class, check_row

MOST_NODES: Final = 6
MOST_CASES: Final = 4_096  # all combinations of all values
MOST_COUNTED: Final = 1 << 53
FEWEST: Final = 20  # rows like this one, below which nothing is said


class Node(NamedTuple):
    """Something that has one of a few values, which depend on those of its parents."""

    name: str
    values: tuple[str, ...]
    parents: tuple[str, ...] = ()


class Network:
    """Tables of what depends on what, learned by counting.

    With n rows seen in a cell, m of them with a value, and k values, the
    value has the probability ``(m + 1) / (n + k)``: Dirichlet(1).

    Parameters
    ----------
    nodes
        Parents before their children, which rules out circles.

    Raises
    ------
    BadSnapshotError
        More than 6 nodes or 4,096 combinations, a name or value told twice, a
        parent that does not stand before its child.

    Examples
    --------
    >>> rain = Network([Node("rain", ("no", "yes")), Node("wet", ("no", "yes"), ("rain",))])
    >>> rain.set_table("rain", [[0.8, 0.2]])
    >>> rain.set_table("wet", [[0.9, 0.1], [0.0, 1.0]])
    >>> round(rain.probability({"rain": "yes"}, {"wet": "yes"}), 4)
    0.7143
    """

    CLASS: Final = "network/1"

    __slots__ = ("_by_name", "_counts", "_tables", "nodes")

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = tuple(nodes)
        self._by_name: dict[str, Node] = {}
        cases = 1
        for node in self.nodes:
            fits = len(node.values) > 1 and len({*node.values}) == len(node.values) and node.name not in self._by_name
            if (
                not fits
                or len({*node.parents}) < len(node.parents)
                or any(p not in self._by_name for p in node.parents)
            ):
                text = f"{node.name} has no place in the graph, or not two values, or one twice"
                raise BadSnapshotError(text)
            self._by_name[node.name] = node
            cases *= len(node.values)
        if not 0 < len(self.nodes) <= MOST_NODES or cases > MOST_CASES:
            text = f"{len(self.nodes)} nodes with {cases} combinations are not explained"
            raise BadSnapshotError(text)
        self._counts = {node.name: [[0] * len(node.values) for _ in range(self._cells(node))] for node in self.nodes}
        self._tables: dict[str, list[list[float]]] = {}

    def _cells(self, node: Node) -> int:
        return math.prod(len(self._by_name[parent].values) for parent in node.parents)

    def _index(self, name: str, value: object) -> int:
        node = self._by_name.get(name)
        if node is None or value not in node.values:
            raise BadRowError(name=name, value=value)
        return node.values.index(str(value))

    def _cell(self, node: Node, case: Mapping[str, int]) -> int:
        """Return which row of the table holds: the last parent changes fastest."""
        cell = 0
        for parent in node.parents:
            cell = cell * len(self._by_name[parent].values) + case[parent]
        return cell

    def learn(self, values: Mapping[str, str]) -> None:
        """Count one row, in which every node has a value.

        Raises
        ------
        BadRowError
            A node without a value, or with one that it cannot have.
        """
        case = {node.name: self._index(node.name, values.get(node.name)) for node in self.nodes}
        for node in self.nodes:
            self._counts[node.name][self._cell(node, case)][case[node.name]] += 1

    def set_table(self, name: str, rows: Sequence[Sequence[float]]) -> None:
        """Say the probabilities of a node by hand; what is counted for it has no say any more.

        Parameters
        ----------
        name
            Of the node.
        rows
            For each combination of its parents' values (the last parent
            changes fastest) the probabilities of its own values.

        Raises
        ------
        BadSnapshotError
            Another shape, or a row that does not add up to 1.
        """
        node = self._by_name.get(name)
        table = [[float(value) for value in row] for row in rows]
        if node is None or len(table) != self._cells(node):
            text = f"{name} has no table of {len(table)} rows"
            raise BadSnapshotError(text)
        for row in table:
            is_whole = len(row) == len(node.values) and abs(math.fsum(row) - 1.0) < 1e-9
            if not is_whole or not all(0.0 <= value <= 1.0 for value in row):
                text = f"{name}: {row} are not the probabilities of {len(node.values)} values"
                raise BadSnapshotError(text)
        self._tables[name] = table

    def table(self, name: str) -> list[list[float]]:
        """Return the probabilities of a node, as ``set_table`` takes them."""
        if name in self._tables:
            return [list(row) for row in self._tables[name]]
        return [[(count + 1) / (sum(row) + len(row)) for count in row] for row in self._counts[name]]

    def counted(self, name: str, given: Mapping[str, str]) -> list[int]:
        """Return how often each value of a node was seen where its parents have these values.

        Parents that are not told may have any.
        """
        node = self._by_name[name]
        totals = [0] * len(node.values)
        for case in self._cases(node.parents, given):
            for at, count in enumerate(self._counts[name][self._cell(node, case)]):
                totals[at] += count
        return totals

    def _cases(self, names: Sequence[str], known: Mapping[str, str]) -> Iterator[dict[str, int]]:
        """Yield every combination of the named nodes' values that agrees with what is known."""
        open_to = [
            (self._index(name, known[name]),) if name in known else range(len(self._by_name[name].values))
            for name in names
        ]
        for case in product(*open_to):
            yield dict(zip(names, case, strict=True))

    def _joint(self, known: Mapping[str, str], tables: Mapping[str, list[list[float]]]) -> float:
        total = 0.0
        for case in self._cases(tuple(self._by_name), known):
            chance = 1.0
            for node in self.nodes:
                chance *= tables[node.name][self._cell(node, case)][case[node.name]]
            total += chance
        return total

    def probability(self, query: Mapping[str, str], given: Mapping[str, str] | None = None) -> float:
        """Return P(query | given), exactly.

        Raises
        ------
        BadRowError
            A node or a value that there is not, or ``given`` cannot be.
        """
        known = dict(given or {})
        for name, value in (*query.items(), *known.items()):
            self._index(name, value)
        tables = {node.name: self.table(node.name) for node in self.nodes}
        base = self._joint(known, tables)
        if base <= 0.0:
            raise BadRowError(name="given", value=known)
        if any(known.get(name, value) != value for name, value in query.items()):
            return 0.0
        return self._joint({**known, **query}, tables) / base

    def state(self) -> State:
        """Return graph, counts and tables said by hand, as JSON."""
        return {
            "class": self.CLASS,
            "nodes": [[node.name, list(node.values), list(node.parents)] for node in self.nodes],
            "counts": {name: [list(row) for row in rows] for name, rows in self._counts.items()},
            "tables": {name: [list(row) for row in rows] for name, rows in self._tables.items()},
        }

    @classmethod
    def restore(cls, state: State) -> Network:
        """Return the network that a state tells.

        Raises
        ------
        BadSnapshotError
            Another class or graph, or counts that are none.
        """
        check_class(state, cls.CLASS)
        try:
            found = cls(Node(str(name), tuple(values), tuple(parents)) for name, values, parents in state["nodes"])
            for node in found.nodes:
                rows = [list(row) for row in state["counts"][node.name]]
                if [len(row) for row in rows] != [len(row) for row in found._counts[node.name]]:
                    text = f"the counts of {node.name} have another shape"
                    raise BadSnapshotError(text)
                if any(type(count) is not int or not 0 <= count < MOST_COUNTED for row in rows for count in row):
                    text = f"the counts of {node.name} are no counts"
                    raise BadSnapshotError(text)
                found._counts[node.name] = rows
            for name, table in state["tables"].items():
                found.set_table(name, table)
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            text = f"no network: {problem!r}"
            raise BadSnapshotError(text) from problem
        return found


# ---- the slot: reasons for a score of intent -------------------------------------------------------------------------

NAMES: Final = (
    "views", "carts", "dur", "pace", "hour_sin", "hour_cos", "rec_buy", "v", "c", "s", "b", "rate", "again", "focus",
)  # fmt: skip
EVER_ORDERED: Final = math.log1p(365.0) - 1e-3  # an order ``rec_buy`` days ago; never, or a year, is log1p(365)
SEEN_AGAIN: Final = 2.0  # views of one item in this visit
FOCUSED: Final = 0.5  # more than this share of the views in one category

NO, YES = "no", "yes"
CAUSES: Final = ("returning", "again", "focus", "cart")
GRAPH: Final = (*(Node(name, (NO, YES)) for name in CAUSES), Node("buy", (NO, YES), CAUSES))
PHRASES: Final = {
    "returning": {YES: "returning buyer", NO: "no order yet"},
    "again": {YES: "same item seen again", NO: "no item seen twice"},
    "focus": {YES: "mostly one category", NO: "several categories"},
    "cart": {YES: "something in the cart", NO: "nothing in the cart"},
}


class Reason(NamedTuple):
    """Why an order is likely or not: how often visits like this one ended in one.

    The words tell what was counted; the probability is drawn towards a half
    by one visit of each kind.
    """

    probability: float
    n: int
    words: str


def discretise(row: Row) -> dict[str, str]:
    """Return what a row of ``intent/1`` says about the causes of an order.

    A cause is left out when its feature is NaN: it may be either.

    ==========  ========================================================
    returning   ordered within the last year: ``rec_buy < log1p(365)``
    again       one item was viewed twice or more: ``again >= 2``
    focus       most views are of one category: ``focus > 0.5``
    cart        something was put into the cart: ``carts > 0``
    ==========  ========================================================

    Raises
    ------
    BadRowError
        Another length, an infinity, or what is no number.
    """
    _check(row)
    told = dict(zip(NAMES, row, strict=True))
    facts = {
        "returning": (told["rec_buy"], told["rec_buy"] < EVER_ORDERED),
        "again": (told["again"], told["again"] >= SEEN_AGAIN),
        "focus": (told["focus"], told["focus"] > FOCUSED),
        "cart": (told["carts"], told["carts"] > 0.0),
    }
    return {name: YES if holds else NO for name, (value, holds) in facts.items() if not math.isnan(value)}


class Reasons:
    """Reasons for a score of intent: a network in which all causes are parents of the order.

    Quality: an AUC of .60 on clicks of nine days, where the model of intent
    has .65. It explains, and is no champion.

    Examples
    --------
    >>> reasons = Reasons()
    >>> row = [0.0] * 14
    >>> for number in range(40):
    ...     reasons.learn(row, number % 4 == 0)
    >>> reasons.explain(row).words  # doctest: +NORMALIZE_WHITESPACE
    'of 40 visits like this one (returning buyer, no item seen twice, several categories, nothing in the cart)
     25 % ended in an order; all visits: 25 %'
    """

    CLASS: Final = "bayes/1"

    __slots__ = ("network",)

    def __init__(self) -> None:
        self.network = Network(GRAPH)

    def learn(self, row: Row, happened: bool) -> None:
        """Count a row of ``intent/1`` and whether the visit ended in an order.

        Raises
        ------
        BadRowError
            Another length, an infinity, NaN, or what is no number.
        """
        _check(row, learn=True)
        self.network.learn({**discretise(row), "buy": YES if happened else NO})

    def explain(self, row: Row) -> Reason | None:
        """Return how often visits like this one ended in an order; None with fewer than 20 like it.

        Raises
        ------
        BadRowError
            Another length, an infinity, or what is no number.
        """
        given = discretise(row)
        without, with_order = self.network.counted("buy", given)
        n = without + with_order
        if n < FEWEST:
            return None
        none, ordered = self.network.counted("buy", {})
        like = ", ".join(PHRASES[name][value] for name, value in given.items())
        share, of_all = _percent(with_order, n), _percent(ordered, none + ordered)
        words = f"of {n} visits{f' like this one ({like})' if like else ''} {share} % ended in an order"
        return Reason(self.network.probability({"buy": YES}, given), n, f"{words}; all visits: {of_all} %")

    def state(self) -> State:
        """Return all that was counted, as JSON."""
        return {"class": self.CLASS, "network": self.network.state()}

    @classmethod
    def restore(cls, state: State) -> Reasons:
        """Return the reasons that a state tells.

        Raises
        ------
        BadSnapshotError
            Another class or graph, or counts that are none.
        """
        check_class(state, cls.CLASS)
        found = cls()
        network = Network.restore(state.get("network", {}))
        if network.nodes != found.network.nodes:
            text = "another graph than that of the reasons for an order"
            raise BadSnapshotError(text)
        found.network = network
        return found


def _check(row: Row, *, learn: bool = False) -> None:
    try:
        check_row(row, NAMES, learn=learn)
    except TypeError:
        raise BadRowError(name="row", value=list(row)) from None


def _percent(part: int, whole: int) -> int:
    """Return a share in whole per cent, half up."""
    return (200 * part + whole) // (2 * whole)

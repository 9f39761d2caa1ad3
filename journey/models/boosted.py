"""Gradient boosting: fitted now and then by scikit-learn, scored for ever in plain Python.

A fit is a batch job: it is decided once, published and never repeated. What
is published are the trees as JSON; the scores of this module equal those of
``predict_proba`` to the bit, without scikit-learn, NumPy or pickle. The trees
are read from attributes that scikit-learn keeps to itself, so only the one
version that was looked into is accepted.

References
----------
Ke et al. (2017), "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar, Final, Self

from journey.errors import BadRowError, BadSnapshotError, ModelError
from journey.models.assign import check
from journey.models.base import Row, State, check_class, sigmoid

SCIKIT_LEARN: Final = "1.9.1"
ROUNDS: Final = 120
RATE: Final = 0.06
LEAVES: Final = 8
LEAST_ROWS: Final = 100  # in a leaf
SHRINKAGE: Final = 5.0  # l2

_MOST_DEPTH: Final = 64
_EXPLODED: Final = 1e6  # a logit

# a leaf is its value; a question is (feature, threshold, node if at most, if more, if there is no data, mean beneath)
_Node = float | tuple[int, float, Any, Any, Any, float]


class MissingLibraryError(ModelError):
    """scikit-learn is not installed: nothing is fitted, and what was published goes on being scored."""

    def __init__(self) -> None:
        super().__init__("gradient boosting is fitted by scikit-learn: pip install journey-engine[audit]")


class OtherLibraryError(ModelError):
    """Another scikit-learn than the one whose trees can be read."""

    def __init__(self, *, found: str) -> None:
        self.found = found
        super().__init__(
            f"trees are read from scikit-learn {SCIKIT_LEARN} only, {found} is installed: "
            "pip install journey-engine[audit]"
        )


class UnfitError(ModelError):
    """These labels cannot be fitted: no rows, or all with the same answer."""


def fit(rows: Sequence[Row], labels: Sequence[bool | int], names: Sequence[str]) -> State:
    """Fit 120 trees of 8 leaves and return them as the state of a ``Boosted``.

    Takes a second for 20,000 rows, on one core, so that whoever serves events keeps the others: run it in a thread.
    Nothing is drawn: the same rows give the same trees.

    Parameters
    ----------
    rows
        Each of ``len(names)`` numbers, none of them absent.
    labels
        Whether it happened, for each row.
    names
        The features, in the order of the schema.

    Raises
    ------
    MissingLibraryError, OtherLibraryError
        scikit-learn is absent, or not the version whose trees can be read.
    BadRowError
        Not a row of these features, or one that lacks data.
    UnfitError
        Nothing to learn from.
    """
    ensemble, version = _library()
    if version != SCIKIT_LEARN:
        raise OtherLibraryError(found=version)
    for row in rows:
        check(row, names, learn=True)
    happened = [bool(label) for label in labels]
    if len(rows) != len(happened):
        raise BadRowError(name=f"labels of {len(rows)} rows", value=len(happened))
    if len(set(happened)) < 2:
        text = f"{len(happened)} rows with {len(set(happened))} different answers"
        raise UnfitError(text)
    model = ensemble.HistGradientBoostingClassifier(
        max_iter=ROUNDS,
        learning_rate=RATE,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=LEAST_ROWS,
        l2_regularization=SHRINKAGE,
        early_stopping=False,  # it would set a random tenth aside
        random_state=0,
    )
    with import_module("threadpoolctl").threadpool_limits(1):  # of scikit-learn's own
        model.fit([list(row) for row in rows], happened)
    return _exported(model, names, len(rows), sum(happened))


def _library() -> tuple[Any, str]:
    try:
        return import_module("sklearn.ensemble"), str(import_module("sklearn").__version__)
    except ImportError as error:
        raise MissingLibraryError from error


def _exported(model: Any, names: Sequence[str], rows: int, happened: int) -> State:
    trees = [_exported_node(predictor.nodes, 0) for (predictor,) in vars(model)["_predictors"]]
    return {
        "class": Boosted.CLASS,
        "names": list(names),
        "n": rows,
        "happened": happened,
        "base": float(vars(model)["_baseline_prediction"].ravel()[0]),
        "trees": trees,
    }


def _exported_node(nodes: Any, at: int) -> Any:
    node = nodes[at]
    if node["is_leaf"]:
        return [float(node["value"]), int(node["count"])]
    if node["is_categorical"]:
        text = "a tree asks for a category, which no row has"
        raise UnfitError(text)
    sides = [_exported_node(nodes, int(node[side])) for side in ("left", "right")]
    return [int(node["feature_idx"]), float(node["num_threshold"]), int(node["missing_go_to_left"]), *sides]


class Boosted:
    """Fitted trees: they score, and do not learn.

    Attributes
    ----------
    n, happened
        How many rows they were fitted on, and how many of them came true.

    Examples
    --------
    >>> halves = [0, 0.5, 1, [-1.0, 200], [1.0, 200]]  # feature 0 at most 0.5 (or no data): -1, else +1; 200 rows each
    >>> told = {"names": ["rec"], "n": 400, "happened": 200, "base": 0.0, "trees": [halves]}
    >>> model = Boosted.restore({"class": "boosted/1", **told})
    >>> [round(score, 3) for score in model.score_many([[0.0], [1.0], [float("nan")]])]
    [0.269, 0.731, 0.269]
    >>> model.contributions([1.0])
    [('rec', 1.0)]
    """

    CLASS: ClassVar[str] = "boosted/1"

    def __init__(self, names: Sequence[str], base: float, trees: Sequence[Any], *, n: int, happened: int) -> None:
        self.names = tuple(names)
        self.n = n
        self.happened = happened
        self._base = base
        self._told = list(trees)
        self._trees = tuple(_read(tree, len(self.names), 0)[0] for tree in trees)

    def logit(self, row: Row) -> float:
        """Return the sum of what the trees say about a row; no data goes where scikit-learn sent it.

        Raises
        ------
        BadRowError
            Not a row of these features.
        """
        check(row, self.names)
        total = self._base
        for tree in self._trees:
            node: Any = tree
            while node.__class__ is tuple:
                at, threshold, low, high, absent, _ = node
                value = row[at]
                node = low if value <= threshold else high if value > threshold else absent
            total += node
        return total

    def score(self, row: Row) -> float:
        """Return the probability for one row, as ``predict_proba`` would.

        Raises
        ------
        BadRowError
            Not a row of these features.
        """
        return sigmoid(self.logit(row))

    def score_many(self, rows: Sequence[Row]) -> list[float]:
        """Return the probability for each row, the same as if it were alone."""
        return [self.score(row) for row in rows]

    def contributions(self, row: Row) -> list[tuple[str, float]]:
        """Return what each feature adds to the logit, the largest first; equal ones by name.

        On its way down a tree the mean of the leaves beneath changes with each
        answer, and the change is the asked feature's. The sum is the logit
        less what it is before anything is known.

        References
        ----------
        Saabas (2014), "Interpreting random forests".
        """
        check(row, self.names)
        parts = dict.fromkeys(self.names, 0.0)
        for tree in self._trees:
            node: Any = tree
            while node.__class__ is tuple:
                at, threshold, low, high, absent, before = node
                value = row[at]
                node = low if value <= threshold else high if value > threshold else absent
                parts[self.names[at]] += _mean(node) - before
        return sorted(parts.items(), key=lambda part: (-abs(part[1]), part[0]))

    def state(self) -> State:
        """Return the trees as JSON."""
        return {
            "class": self.CLASS,
            "names": list(self.names),
            "n": self.n,
            "happened": self.happened,
            "base": self._base,
            "trees": list(self._told),
        }

    @classmethod
    def restore(cls, state: State) -> Self:
        """Take back what ``fit`` or ``state`` returned.

        Raises
        ------
        BadSnapshotError
            Of another class, or with a node that is none.
        """
        check_class(state, cls.CLASS)
        try:
            base = float(state["base"])
            counts = {"n": int(state["n"]), "happened": int(state["happened"])}
            model = cls(state["names"], base, state["trees"], **counts)
        except (KeyError, TypeError, ValueError) as error:
            text = f"the state of a {cls.CLASS} lacks something: {error!r}"
            raise BadSnapshotError(text) from error
        if not abs(base) <= _EXPLODED:
            text = f"{base} is no logit to begin with"
            raise BadSnapshotError(text)
        return model


def _read(node: Any, width: int, depth: int) -> tuple[_Node, int]:
    """Return a node as it is asked, and how many rows it was fitted on."""
    if isinstance(node, list) and len(node) == 5 and depth < _MOST_DEPTH:
        at, threshold, absent_is_low, *sides = node
        (low, lows), (high, highs) = (_read(side, width, depth + 1) for side in sides)
        if type(at) is int and 0 <= at < width and absent_is_low in (0, 1) and _is_number(threshold):
            mean = (lows * _mean(low) + highs * _mean(high)) / (lows + highs)
            return (at, float(threshold), low, high, low if absent_is_low else high, mean), lows + highs
    elif isinstance(node, list) and len(node) == 2:
        value, count = node
        if _is_number(value) and abs(value) <= _EXPLODED and type(count) is int and count > 0:
            return float(value), count
    text = f"{str(node)[:80]} is no node of a tree"
    raise BadSnapshotError(text)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _mean(node: _Node) -> float:
    return node[-1] if isinstance(node, tuple) else node

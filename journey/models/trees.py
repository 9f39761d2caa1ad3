"""Decision trees that grow with each label: a Hoeffding tree, and an adaptive random forest of five.

Both measure what a tree would add to the logistic regression and decide
nothing by themselves. River grows them; ``journey.models.rivers`` keeps them.
Their size is bounded twice: by depth, and by leaves. River's own bound is
switched off, for it measures objects in memory, and a restored tree would
measure less than one that never stopped.

References
----------
Domingos and Hulten (2000), "Mining high-speed data streams", KDD.
Gomes et al. (2017), "Adaptive random forests for evolving data stream classification", Machine Learning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

from river import forest, tree

from journey.errors import BadSnapshotError
from journey.models import rivers
from journey.models.assign import MOST, check, numbers
from journey.models.base import Row, State, bounded, check_class, logit

_NEVER = 2**53

_hoeffding_tree: Any = tree.HoeffdingTreeClassifier
_random_forest: Any = forest.ARFClassifier


class _Grown:
    """What one tree and many have in common: means for absent data, a prior, a bound.

    Attributes
    ----------
    n, happened
        How many rows were learned, and how many of them came true.
    """

    CLASS: ClassVar[str]
    MOST_LEAVES: ClassVar[int]

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.n = 0
        self.happened = 0
        self._means = [0.0] * len(self.names)
        self._model: Any = self._planted()

    def _planted(self) -> Any:
        """Return River's estimator before it has seen anything."""
        raise NotImplementedError

    def _trees(self) -> Iterable[Any]:
        """Return the trees whose leaves are counted."""
        raise NotImplementedError

    @property
    def cold(self) -> bool:
        """Whether it has seen one answer only, or none."""
        return not 0 < self.happened < self.n

    @property
    def leaves(self) -> int:
        """How many leaves there are."""
        return sum(each.n_active_leaves + each.n_inactive_leaves for each in self._trees())

    def learn(self, row: Row, happened: bool) -> None:
        """Learn what came of a row.

        Raises
        ------
        BadRowError
            Not a row of these features, or one that lacks data.
        """
        check(row, self.names, learn=True)
        x = self._named(row)
        self.n += 1
        self.happened += bool(happened)
        for at, value in enumerate(x.values()):
            self._means[at] += (value - self._means[at]) / self.n
        self._model.learn_one(x, bool(happened))
        for each in self._trees():
            if each.n_active_leaves + each.n_inactive_leaves >= self.MOST_LEAVES:
                each.grace_period = _NEVER

    def score(self, row: Row) -> float:
        """Return the probability for one row; an absent number is taken for the mean of those learned.

        What no leaf can tell, because one answer only was ever learned or
        none at all, is the share of those learned.

        Returns
        -------
        At least 0.0001 and at most one less that.

        Raises
        ------
        BadRowError
            Not a row of these features.
        """
        check(row, self.names)
        prior = (self.happened + 0.5) / (self.n + 1.0)
        if self.n == 0:  # River would plant the forest now
            return prior
        return bounded(float(self._model.predict_proba_one(self._named(row)).get(True, prior)))

    def score_many(self, rows: Sequence[Row]) -> list[float]:
        """Return the probability for each row, the same as if it were alone."""
        return [self.score(row) for row in rows]

    def contributions(self, row: Row) -> list[tuple[str, float]]:
        """Return what each feature adds to the logit, the largest first; equal ones by name.

        On its way down a tree the share of rows that came true changes with
        each answer, and the change of its logit is the asked feature's. Of
        many trees the mean is told, so that the sum is about the logit.

        References
        ----------
        Saabas (2014), "Interpreting random forests".
        """
        check(row, self.names)
        parts = dict.fromkeys(self.names, 0.0)
        x, trees = self._named(row), list(self._trees())
        for each in trees:
            path = [] if (root := vars(each)["_root"]) is None else [*_path(root, x)]
            for node, inner in pairwise(path):
                parts[node.feature] += (_logit_in(inner) - _logit_in(node)) / len(trees)
        return sorted(parts.items(), key=lambda part: (-abs(part[1]), part[0]))

    def _named(self, row: Row) -> dict[str, float]:
        x: dict[str, float] = {}
        for name, value, mean in zip(self.names, row, self._means, strict=True):
            x[name] = mean if math.isnan(value) else min(MOST, max(-MOST, float(value)))
        return x

    def state(self) -> State:
        """Return all that it has grown to, as JSON."""
        return {
            "class": self.CLASS,
            "names": list(self.names),
            "n": self.n,
            "happened": self.happened,
            "means": list(self._means),
            "model": rivers.encode(self._model),
        }

    @classmethod
    def restore(cls, state: State) -> Self:
        """Take back what ``state`` returned; it goes on bit for bit.

        Raises
        ------
        BadSnapshotError
            Of another class, or damaged.
        """
        check_class(state, cls.CLASS)
        try:
            model = cls(state["names"])
            model.n, model.happened = int(state["n"]), int(state["happened"])
            model._means = numbers(state["means"], len(model.names))
            grown = rivers.decode(state["model"], finite=True)
        except (KeyError, TypeError, ValueError) as error:
            text = f"the state of a {cls.CLASS} lacks something: {error!r}"
            raise BadSnapshotError(text) from error
        if not 0 <= model.happened <= model.n or type(grown) is not type(model._model):
            text = f"the state of a {cls.CLASS} does not fit together"
            raise BadSnapshotError(text)
        model._model = grown
        return model


def _path(root: Any, x: dict[str, float]) -> Iterable[Any]:
    return root.walk(x) if hasattr(root, "walk") else (root,)  # a tree begins as one leaf


def _logit_in(node: Any) -> float:
    """Return the logit of the share that came true of what a node has seen, or of what it was split with."""
    total = sum(node.stats.values())
    return logit(node.stats.get(True, 0.0) / total) if total > 0.0 else 0.0


class HoeffdingTree(_Grown):
    """One decision tree: a leaf splits as soon as enough rows say which question is the best.

    Examples
    --------
    >>> model = HoeffdingTree(["rec"])
    >>> for day in range(400):
    ...     model.learn([day % 20], day % 20 > 9)
    >>> model.score([2.0]) < 0.1 < 0.9 < model.score([15.0])
    True
    """

    CLASS = "hoeffding/1"
    MOST_LEAVES = 64

    def _planted(self) -> Any:
        return _hoeffding_tree(leaf_prediction="mc", max_depth=10, memory_estimate_period=_NEVER)

    def _trees(self) -> Iterable[Any]:
        return (self._model,)


class Forest(_Grown):
    """Five trees, each on its own choice of rows and features; one that drifts is replaced.

    Its choices come from a generator with a fixed seed, which is part of the state.

    Examples
    --------
    >>> model = Forest(["rec", "f30"])
    >>> for day in range(400):
    ...     model.learn([day % 20, day % 3], day % 20 > 9)
    >>> model.score([2.0, 1.0]) < 0.2 < 0.8 < model.score([15.0, 1.0])
    True
    """

    CLASS = "forest/1"
    MOST_LEAVES = 64

    def _planted(self) -> Any:
        return _random_forest(n_models=5, max_depth=8, leaf_prediction="mc", seed=1, memory_estimate_period=_NEVER)

    def _trees(self) -> Iterable[Any]:
        trees: Iterable[Any] = self._model
        return trees

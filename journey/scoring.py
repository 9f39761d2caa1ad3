"""Snapshots as the engine uses them: decoded once, looked up by name and version, never changed.

A *payload* is what a learner publishes (``journey.training``); what is loaded
from it only scores. What is in force in a journal partition stands in its
partition record; a fold that needs a snapshot that is not at hand stops.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from journey.errors import BadSnapshotError, MissingConfigError, MissingModelError
from journey.events import DAY
from journey.models.assign import SHOP, Clusters, Prototypes
from journey.models.base import bounded, rounded, rounded_score
from journey.models.baskets import Recommendation, Recommender, in_words
from journey.models.lifetime import Lifetime
from journey.models.spend import Forecaster
from journey.samples import SCHEMAS
from journey.stages import NO_EVIDENCE, Evidence

TRUSTED: Final = "trusted"
FEW_LABELS: Final = "few_labels"
ENOUGH_GAPS: Final = 30  # known second gaps, for the shop's own median
RECOMMENDED: Final = 10

# what scores a class of classifier: its module and name, imported when the first snapshot of it is loaded
SCORERS: Final[Mapping[str, tuple[str, str]]] = {
    "logistic/1": ("journey.models.logistic", "Scorer"),
    "boosted/1": ("journey.models.boosted", "Boosted"),
    "blend/1": ("journey.models.blend", "Blend"),
    "hoeffding/1": ("journey.models.trees", "HoeffdingTree"),
    "forest/1": ("journey.models.trees", "Forest"),
    "margin/1": ("journey.models.margins", "Margin"),
    "rate/1": ("journey.models.rate", "Rate"),
}


class Scores(Protocol):
    """What gives a probability for a row."""

    def score(self, row: list[float]) -> float: ...
    def contributions(self, row: list[float]) -> list[tuple[str, float]]: ...


def scorer_of(state: Mapping[str, Any]) -> Scores:
    """Return what scores as the model that had this state.

    Raises
    ------
    BadSnapshotError
        Its class is unknown, or it is damaged.
    """
    place = SCORERS.get(state["class"])
    if place is None:
        text = f"no model of class {state['class']!r} is known"
        raise BadSnapshotError(text)
    scorer: Scores = getattr(importlib.import_module(place[0]), place[1]).restore(state)
    return scorer


ALL_CAN_BE_HAD: Final[frozenset[str]] = frozenset()


class Declares(Protocol):
    """What a configuration declares: segments, and the items that cannot be had."""

    unavailable: frozenset[str]

    def segments(self, lookup: Callable[[str], Any]) -> list[str]:
        """Return the names of those somebody is in, sorted."""


class Loaded:
    """A snapshot that is at hand. Slots whose models only readers use have nothing but their payload."""

    def __init__(self, model: str, version: int, payload: Mapping[str, Any]) -> None:
        self.model, self.version, self.payload = model, version, payload
        self.is_trusted: bool = payload["trust"] == TRUSTED


class Classifier(Loaded):
    """Churn or intent: a probability, and the fallback's beside it, by which the model is judged."""

    def __init__(self, model: str, version: int, payload: Mapping[str, Any]) -> None:
        super().__init__(model, version, payload)
        self.labels: int = payload["labels"]
        schema = payload["schema"]
        names = SCHEMAS.get(schema)
        if names is None or list(names) != list(payload["names"]):
            text = f"{model}/{version}: the schema {schema} of this program has other features"
            raise BadSnapshotError(text)
        self._scorer, self._fallback = scorer_of(payload["state"]), scorer_of(payload["fallback"])
        theta, gap = payload.get("theta"), payload.get("second_gap_days")
        self._evidence = Evidence(
            float(theta) if theta is not None and self.is_trusted else None,
            NO_EVIDENCE.second_order if gap is None else int(gap * DAY),
        )

    def ask(self, row: list[float]) -> tuple[float, float]:
        """Return the model's probability and the fallback's, as they are used: 6 decimals."""
        q = self._fallback.score(row[:1])
        return rounded_score(bounded(self._scorer.score(row))), rounded_score(bounded(q))

    def score(self, row: list[float]) -> float:
        """Return the model's probability as it computes it."""
        return self._scorer.score(row)

    def contributions(self, row: list[float]) -> list[tuple[str, float]]:
        """Return what each feature adds to the logit, the largest first."""
        return self._scorer.contributions(row)

    def evidence(self) -> Evidence:
        """Return what the model says of the shop."""
        return self._evidence


class Segmenter(Loaded):
    """Centres with names; before any are learned, prototypes that a person has described."""

    def __init__(self, model: str, version: int, payload: Mapping[str, Any]) -> None:
        super().__init__(model, version, payload)
        self._clusters = Clusters.restore(payload["state"])
        self._names: list[str] = [str(name) for name in payload["segment_names"]]
        schema = SCHEMAS["segments/1"]
        self._columns = [schema.index(name) for name in self._clusters.names]

    def segment(self, row: list[float], previous: int | None) -> tuple[int, str]:
        """Return the number and the name of a row's segment; the previous one, unless another is nearer by a margin."""
        number = self._clusters.assign_sticky([row[column] for column in self._columns], previous)
        if number is None:
            text = f"{self.model}/{self.version}: it has no centres"
            raise BadSnapshotError(text)
        return number, self._names[number]


class Described(Segmenter):
    """Segments by prototypes: what is used until a model is in force. Nothing is told of them."""

    def __init__(self, prototypes: Prototypes) -> None:
        Loaded.__init__(self, "segments", 0, {"trust": "cold"})
        self._prototypes = prototypes
        self._names = sorted(prototypes.rows)

    def segment(self, row: list[float], previous: int | None) -> tuple[int, str]:
        """Return the number and the name of the nearest prototype, or the previous one."""
        name = self._prototypes.assign(row, None if previous is None else self._names[previous])
        return self._names.index(name), name


class Ranker(Loaded):
    """What to recommend."""

    def __init__(self, model: str, version: int, payload: Mapping[str, Any]) -> None:
        super().__init__(model, version, payload)
        self._recommender = Recommender.restore(payload["state"])

    def recommend(
        self, profile: Mapping[str, float], exclude: tuple[str, ...] = (), unavailable: frozenset[str] = ALL_CAN_BE_HAD
    ) -> list[Recommendation]:
        """Return at most ten items for a customer, best first."""
        return self._recommender.recommend(profile, RECOMMENDED, exclude, unavailable=unavailable)

    def beside_cart(
        self, cart: list[str], profile: Mapping[str, float], unavailable: frozenset[str] = ALL_CAN_BE_HAD
    ) -> list[dict[str, Any]]:
        """Return what goes with a cart and can be had, best first, as it is told."""
        return told(self._recommender.beside_cart(cart, unavailable=unavailable))


class Worths(Loaded):
    """Lifetime value: what to expect of a buyer."""

    def __init__(self, model: str, version: int, payload: Mapping[str, Any]) -> None:
        super().__init__(model, version, payload)
        self._lifetime = Lifetime.restore(payload["state"])

    def worth(self, row: list[float]) -> dict[str, Any]:
        """Return the money, major units, the orders and the chance that any come, of the next 39 weeks."""
        found = self._lifetime.score(row)
        alive = None if found.alive is None else rounded_score(found.alive)
        return {"value": rounded(found.worth), "orders": rounded(found.orders), "alive": alive}


class Spends(Loaded):
    """What a buyer will spend in the next 30 days."""

    def __init__(self, model: str, version: int, payload: Mapping[str, Any]) -> None:
        super().__init__(model, version, payload)
        self._spend = Forecaster.restore(payload["state"])

    def forecast(self, row: list[float]) -> tuple[float, str]:
        """Return the money, major units, and what said so."""
        found = self._spend.forecast(row)
        return (0.0, "") if found is None else (rounded(found.money), found.used)


def told(recommendations: list[Recommendation]) -> list[dict[str, Any]]:
    """Return recommendations as they stand in triggers and documents."""
    return [
        {"item_id": one.item, "score": rounded_score(one.score), "why": one.why, "text": in_words(one.why)}
        for one in recommendations
    ]


KINDS: Final[Mapping[str, type[Loaded]]] = {
    "churn": Classifier, "intent": Classifier, "segments": Segmenter, "recs": Ranker, "clv": Worths,
    "spend": Spends,
}  # fmt: skip


def load(model: str, version: int, payload: Mapping[str, Any]) -> Loaded:
    """Decode a payload; a challenger's name begins with its slot's and a dot.

    Raises
    ------
    BadSnapshotError
        It cannot be such a model.
    """
    try:
        return KINDS.get(model.partition(".")[0], Loaded)(model, version, payload)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        text = f"{model}/{version}: {type(error).__name__}: {error}"
        raise BadSnapshotError(text) from error


class Library:
    """The snapshots and configurations at hand, shared by the partitions of a process.

    Examples
    --------
    >>> Library().get("churn", 1, "9b1d")
    Traceback (most recent call last):
        ...
    journey.errors.MissingModelError: model churn/1 was adopted in the journal and cannot be used: it is not at hand
    """

    def __init__(self) -> None:
        self._models: dict[tuple[str, int, str], Loaded] = {}
        self._configs: dict[str, Declares] = {}
        self.prototypes = Described(SHOP)

    def has(self, model: str, version: int, sha256: str) -> bool:
        """Tell whether a snapshot is at hand."""
        return (model, version, sha256) in self._models

    def add(self, model: str, version: int, sha256: str, payload: Mapping[str, Any]) -> None:
        """Take a snapshot whose signature was verified.

        Raises
        ------
        BadSnapshotError
            It cannot be such a model.
        """
        self._models[model, version, sha256] = load(model, version, payload)

    def get(self, model: str, version: int, sha256: str) -> Loaded:
        """Return a snapshot.

        Raises
        ------
        MissingModelError
            It is not at hand, or it is another of the same name.
        """
        loaded = self._models.get((model, version, sha256))
        if loaded is None:
            raise MissingModelError(model=model, version=version, text="it is not at hand")
        return loaded

    def keep_only(self, wanted: set[tuple[str, int, str]]) -> None:
        """Forget snapshots that no partition uses any more."""
        self._models = {name: loaded for name, loaded in self._models.items() if name in wanted}

    def add_config(self, sha256: str, declared: Declares) -> None:
        """Take a configuration that was checked against its hash."""
        self._configs[sha256] = declared

    def has_config(self, sha256: str) -> bool:
        """Tell whether a configuration is at hand."""
        return sha256 in self._configs

    def config(self, sha256: str) -> Declares:
        """Return a configuration.

        Raises
        ------
        MissingConfigError
            It is not at hand.
        """
        declared = self._configs.get(sha256)
        if declared is None:
            raise MissingConfigError(sha256)
        return declared

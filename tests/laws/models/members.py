"""The models that must keep the laws of ``test_model_laws.py``, and how each of them is fed.

A family is a module of this folder whose name starts with ``members`` and
that has a tuple ``MEMBERS``; nothing else has to be said, for ``members()``
looks for them. A member tells how to make, restore, teach and ask its model.
Its samples are those of the topic ``journey.samples`` or less: what ``learn``
needs. The n-th sample follows from n alone, by ``journey.models.base.chance``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from typing import Any, Final, Literal

import tests.laws.models as family
from journey.entries import encode
from journey.models.assign import SHOP
from journey.models.base import State, chance, rounded, rounded_score, sigmoid
from journey.models.clusters import Names, SequentialKMeans
from journey.models.drift import Drift
from journey.models.logistic import Logistic
from journey.models.progress import Duel, Progress, Quantile, next_trust

Sample = dict[str, Any]


@dataclass(frozen=True)
class Member:
    """One model under the laws; what a field does not say is left to its default.

    Attributes
    ----------
    make, restore
        A new model; one from what its ``state()`` returned.
    sample
        The n-th sample. Where customers or items have ids, new ones go on coming.
    learn
        Teaches the model one sample.
    score, score_many
        Ask it, alone and in a page, without changing it: anything that
        ``encode`` can write, None where it abstains. None: it is not asked.
    kind
        ``rows``: ``sample["x"]`` is a row of features (``names`` in their
        order), which may lack data; ``other``: the laws about NaN, infinity
        and absent features are not about it.
    order
        What the order of samples changes: ``any`` nothing, ``last bits`` numbers
        by less than 1e-12 of themselves, ``matters`` everything.
    most_bytes
        What the encoded state may never exceed: twice its size in the overview of models.
    learned, more
        How many samples are learned before it is kept and taken back, and after.
    many
        How many samples have to be learned within ``most_bytes``.
    abstains
        Whether the model, as it is now, has too little evidence to be asked.
    few
        So many samples are too few (fewer rows than clusters, fewer buyers than parameters).
    one_class
        The n-th sample when only one of two answers ever occurs. None: there are no two.
    asked
        About how many samples it is asked; fewer where an answer takes long.
    strangers
        Samples with ids nobody has seen: asking about them changes nothing.
    """

    name: str
    make: Callable[[], Any]
    restore: Callable[[State], Any]
    sample: Callable[[int], Sample]
    learn: Callable[[Any, Sample], object]
    most_bytes: int
    score: Callable[[Any, Sample], Any] | None = None
    score_many: Callable[[Any, Sequence[Sample]], Sequence[Any]] | None = None
    kind: Literal["rows", "other"] = "other"
    names: tuple[str, ...] = ()
    order: Literal["any", "last bits", "matters"] = "matters"
    learned: int = 5_000
    more: int = 1_000
    many: int = 200_000
    abstains: Callable[[Any], bool] | None = None
    few: int = 3
    one_class: Callable[[int], Sample] | None = None
    asked: int = 200
    strangers: Callable[[], Sequence[Sample]] = tuple

    def taught(self, samples: int) -> Any:
        """Return a new model that has learned the first so many samples."""
        model = self.make()
        for number in range(samples):
            self.learn(model, self.sample(number))
        return model

    def bytes_of(self, model: Any) -> bytes:
        """Return the state as a snapshot holds it."""
        return encode(model.state())


def members() -> tuple[Member, ...]:
    """Return the members of every family, in the order of module names."""
    names = sorted(found.name for found in pkgutil.iter_modules(family.__path__) if found.name.startswith("members"))
    return tuple(_members_of(names))


def _members_of(names: Sequence[str]) -> Iterator[Member]:
    for name in names:
        yield from import_module(f"{family.__name__}.{name}").MEMBERS


def digests() -> dict[str, str]:
    """Return, for each member, what its state and its answers came to: the same in every process."""
    told: dict[str, str] = {}
    for member in members():
        model = member.taught(member.learned)
        answers = (
            []
            if member.score is None
            else [member.score(model, member.sample(n)) for n in range(min(50, member.asked))]
        )
        told[member.name] = blake2b(member.bytes_of(model) + encode(answers), digest_size=16).hexdigest()
    return told


# ---- the core: rows of numbers, and what is said of scores -------------------------------------------------------

CHURN: Final = (
    "rec",
    "overdue",
    "gap",
    "gapsd",
    "f30",
    "f90",
    "m30",
    "m90",
    "bv",
    "it30",
    "disc",
    "cats",
    "ten",
    "vis7",
)
MINUTE: Final = 60_000
FEW_ROWS: Final = 500  # a shorter warm-up than a shop's, so that the laws see both sides of it


def drawn(number: int, *about: str) -> float:
    """Return a number in [0, 1) that belongs to the n-th sample."""
    return chance("members", *about, str(number))


def churn_sample(number: int) -> Sample:
    """Return a buyer's row, late ones more likely not to come back."""
    row = [rounded(4.0 * drawn(number, name)) for name in CHURN]
    return {"x": row, "y": int(drawn(number, "y") < sigmoid(row[0] + row[1] - row[4] - 4.0)), "at": number * MINUTE}


def segment_sample(number: int) -> Sample:
    """Return a customer's row, of one of three kinds."""
    kind = int(3.0 * drawn(number, "kind"))
    row = [rounded(kind * (1.0 + at % 3) + drawn(number, "segment", name)) for at, name in enumerate(SHOP.names)]
    return {"x": row, "at": number * MINUTE}


def scored_sample(number: int) -> Sample:
    """Return a score and its fallback's, and what came true: four rows an hour."""
    p = rounded_score(drawn(number, "p"))
    return {
        "y": int(drawn(number, "true") < p),
        "p": p if number % 10 else None,
        "q": rounded_score(0.3 + 0.4 * drawn(number, "q")) if number % 7 else None,
        "at": number * 15 * MINUTE,
    }


def loss_sample(number: int) -> Sample:
    """Return a loss: after every 2,000 of them the mean is another one."""
    return {"loss": rounded_score(drawn(number, "loss") + 0.5 * (number // 2_000 % 2)), "at": number * 15 * MINUTE}


def _has_trust(progress: Progress) -> bool:
    return next_trust("cold", progress, 0)[0] != "cold"


def _learn_duel(duel: Duel, sample: Sample) -> None:
    if sample["p"] is not None and sample["q"] is not None:
        duel.add(bool(sample["y"]), sample["q"], sample["p"], sample["at"])


MEMBERS: Final[tuple[Member, ...]] = (
    Member(
        name="logistic",
        make=lambda: Logistic(CHURN, warm=2_000),
        restore=Logistic.restore,
        sample=churn_sample,
        learn=lambda model, sample: model.learn(sample["x"], bool(sample["y"])),
        score=lambda model, sample: model.score(sample["x"]),
        score_many=lambda model, samples: model.score_many([sample["x"] for sample in samples]),
        kind="rows",
        names=CHURN,
        abstains=lambda model: model.cold,
        few=0,
        one_class=lambda number: {**churn_sample(number), "y": 1},
        many=50_000,
        most_bytes=2 * 1_600,
    ),
    Member(
        name="logistic after a drift",
        make=lambda: Logistic(CHURN, warm=2_000),
        restore=Logistic.restore,
        sample=churn_sample,
        learn=lambda model, sample: model.learn(sample["x"], bool(sample["y"]), 1.0 + sample["at"] // MINUTE % 2),
        score=lambda model, sample: model.contributions(sample["x"]),
        kind="rows",
        names=CHURN,
        many=20_000,
        most_bytes=2 * 1_600,
    ),
    Member(
        name="segments",
        make=lambda: SequentialKMeans(warmup=FEW_ROWS),
        restore=SequentialKMeans.restore,
        sample=segment_sample,
        learn=lambda model, sample: model.learn(sample["x"], sample["at"]),
        score=lambda model, sample: model.assign_sticky(sample["x"], 1),
        score_many=lambda model, samples: [model.clusters().assign_sticky(sample["x"], 1) for sample in samples],
        kind="rows",
        names=SHOP.names,
        abstains=lambda model: not model.trusted,
        few=5,
        many=100_000,
        most_bytes=FEW_ROWS * 80,  # in the warm-up, whose rows are kept
    ),
    Member(
        name="names",
        make=Names,
        restore=Names.restore,
        sample=segment_sample,
        learn=lambda names, sample: names.look(
            [[value + segment for value in sample["x"]] for segment in range(6)], sample["at"] * 600
        ),
        score=lambda names, sample: names.current,
        learned=300,
        more=100,
        many=1_000,
        most_bytes=2_000,
    ),
    Member(
        name="progress",
        make=lambda: Progress("churn"),
        restore=Progress.restore,
        sample=scored_sample,
        learn=lambda progress, sample: progress.add(bool(sample["y"]), sample["p"], sample["q"], sample["at"]),
        score=lambda progress, sample: [progress.figures(), progress.gain_interval(), *next_trust("cold", progress, 0)],
        abstains=lambda progress: not _has_trust(progress),
        few=499,
        asked=3,
        one_class=lambda number: {**scored_sample(number), "y": 1},
        most_bytes=80_000,
    ),
    Member(
        name="duel",
        make=lambda: Duel("churn"),
        restore=Duel.restore,
        sample=scored_sample,
        learn=_learn_duel,
        score=lambda duel, sample: duel.verdict(),
        abstains=lambda duel: not duel.verdict()["promote"],
        few=100,
        asked=3,
        one_class=lambda number: {**scored_sample(number), "y": 1},
        most_bytes=40_000,
    ),
    Member(
        name="quantile",
        make=Quantile,
        restore=Quantile.restore,
        sample=scored_sample,
        learn=lambda quantile, sample: quantile.add(sample["p"] or 0.0, sample["at"]),
        score=lambda quantile, sample: quantile.exceeded_by(0.1),
        order="any",
        most_bytes=40_000,
    ),
    Member(
        name="drift",
        make=lambda: Drift("churn"),
        restore=Drift.restore,
        sample=loss_sample,
        learn=lambda drift, sample: drift.add(sample["loss"], sample["at"]),
        score=lambda drift, sample: [drift.rate, drift.alarms],
        learned=7_900,
        most_bytes=200_000,
    ),
)

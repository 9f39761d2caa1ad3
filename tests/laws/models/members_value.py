"""The models of value and of reasons under the laws."""

from __future__ import annotations

from typing import Any, Final

from journey.errors import BadSnapshotError
from journey.models import bayes, lifetime, spend
from journey.models.base import State, chance, rounded
from journey.models.bayes import Reasons
from journey.models.lifetime import WEEK_MS, Buyers, Lifetime, fit
from journey.models.spend import Spend
from tests.laws.models.members import Member, Sample

BUYERS_A_WEEK: Final = 500


def drawn(n: int, what: str) -> float:
    return chance("value", what, str(n))


# ---- lifetime: observed, and fitted when a week is over, as the learner does ----------------------------------------


class Weekly:
    """Observations, and the fit that is in force."""

    CLASS: Final = "weekly/1"

    def __init__(self) -> None:
        self.buyers = Buyers()
        self.published: State | None = None

    def learn(self, sample: Sample) -> None:
        self.buyers.observe(sample["x"], sample["at"])
        if self.buyers.due(sample["at"]):
            self.published = fit(self.buyers.rows()) or self.published
            self.buyers.fitted(sample["at"])

    def score(self, sample: Sample) -> list[float | None] | None:
        if self.published is None:
            lifetime.observed(sample["x"])
            return None
        return list(Lifetime.restore(self.published).score(sample["x"]))

    def state(self) -> State:
        return {"class": self.CLASS, "buyers": self.buyers.state(), "published": self.published}

    @classmethod
    def restore(cls, state: State) -> Weekly:
        if state["class"] != cls.CLASS:
            raise BadSnapshotError(state["class"])
        found = cls()
        found.buyers = Buyers.restore(state["buyers"])
        if state["published"] is not None:
            found.published = Lifetime.restore(state["published"]).state()
        return found


def buyer(n: int) -> Sample:
    """Return a buyer of 1 to 41 weeks; two in five ordered again."""
    weeks = 1.0 + 40.0 * drawn(n, "weeks")
    repeats = float(max(0, int(12.0 * drawn(n, "repeats") ** 3)))
    last = rounded(weeks * drawn(n, "last")) if repeats else 0.0
    mean = rounded(5.0 + 60.0 * drawn(n, "mean") ** 2) if repeats else 0.0
    return {"x": [repeats, last, rounded(weeks), mean], "at": n * (WEEK_MS // BUYERS_A_WEEK)}


def of_one_week(n: int) -> Sample:
    """Return the same buyers, far more of them in a week than are kept."""
    return {**buyer(n), "at": n}


def observe(buyers: Buyers, sample: Sample) -> None:
    buyers.observe(sample["x"], sample["at"])


# ---- spend and reasons ----------------------------------------------------------------------------------------------


def spender(n: int) -> Sample:
    """Return a row whose later revenue follows the recent one, with chance."""
    row = [rounded(3.0 * drawn(n, name)) for name in spend.NAMES]
    spent = 40.0 * row[spend.NAMES.index("m30")] * drawn(n, "spent")
    return {"x": row, "spent": rounded(spent)}


def learn_spent(model: Spend, sample: Sample) -> None:
    model.learn(sample["x"], sample["spent"])


def score_spend(model: Spend, sample: Sample) -> list[Any]:
    forecast = model.forecast(sample["x"])
    return [model.score(sample["x"]), forecast and list(forecast)]


def visit(n: int) -> Sample:
    """Return a visit that ends in an order in one of three cases when something is in the cart, else in one of ten."""
    told = {name: rounded(2.0 * drawn(n, name)) for name in bayes.NAMES}
    told |= {"carts": float(drawn(n, "carts") < 0.3), "rec_buy": 5.9026 if drawn(n, "new") < 0.5 else 2.0}
    told |= {"again": 1.0 + 2.0 * (drawn(n, "again") < 0.4), "focus": rounded(drawn(n, "focus"))}
    ordered = drawn(n, "order") < (0.33 if told["carts"] else 0.1)
    return {"x": [told[name] for name in bayes.NAMES], "y": int(ordered)}


def learn_visit(model: Reasons, sample: Sample) -> None:
    model.learn(sample["x"], bool(sample["y"]))


def explain(model: Reasons, sample: Sample) -> list[Any] | None:
    reason = model.explain(sample["x"])
    return None if reason is None else list(reason)


MEMBERS: tuple[Member, ...] = (
    Member(
        name="lifetime",
        make=Weekly,
        restore=Weekly.restore,
        sample=buyer,
        learn=Weekly.learn,
        score=Weekly.score,
        kind="rows",
        names=lifetime.NAMES,
        learned=1_200,
        more=300,
        many=5_000,
        most_bytes=64 * 1024,  # a fit of 0.3 KB, and a week of observations that no engine reads
        abstains=lambda model: model.published is None,
        few=BUYERS_A_WEEK - 1,
    ),
    Member(
        name="lifetime, observations",
        make=Buyers,
        restore=Buyers.restore,
        sample=of_one_week,
        learn=observe,
        kind="rows",
        names=lifetime.NAMES,
        most_bytes=1_000_000,
        abstains=lambda model: fit(model.rows()) is None,
        few=lifetime.FEWEST_BUYERS - 1,
    ),
    Member(
        name="spend",
        make=Spend,
        restore=Spend.restore,
        sample=spender,
        learn=learn_spent,
        score=score_spend,
        kind="rows",
        names=spend.NAMES,
        most_bytes=4 * 1024,
        abstains=lambda model: model.cold,
        few=spend.FEWEST - 1,
    ),
    Member(
        name="spend, polynomial",
        make=lambda: Spend(degree=2),
        restore=Spend.restore,
        sample=spender,
        learn=learn_spent,
        score=score_spend,
        kind="rows",
        names=spend.NAMES,
        learned=1_000,
        more=300,
        many=10_000,
        most_bytes=20 * 1024,
        abstains=lambda model: model.cold,
        few=spend.FEWEST - 1,
    ),
    Member(
        name="bayes",
        make=Reasons,
        restore=Reasons.restore,
        sample=visit,
        learn=learn_visit,
        score=explain,
        kind="rows",
        names=bayes.NAMES,
        order="any",
        most_bytes=2 * 1024,
        abstains=lambda model: model.explain(visit(0)["x"]) is None,
        few=bayes.FEWEST - 1,
    ),
)

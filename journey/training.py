"""What the learners do: a fold of the samples of one family, from the first one on, which publishes as it goes.

The same samples give the same models, versions and figures, byte for byte.
Nothing here waits, reads a clock or draws lots. A batch fit (SciPy, boosted
trees) is the exception: it is asked for (``Fit``), decided once by whoever
runs this, published, and told back (``fitted``); a fold that comes by again is
told what was published then.

Every label is held against what the version of its day would have said: of
each contestant a state is put away once a day (the trees: once a week), and a
row is scored with the newest one from before it. Whatever overlapping labels
have taught since does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from journey.entries import encode
from journey.errors import BadRowError, BadSnapshotError, ModelError
from journey.events import DAY, HOUR
from journey.ids import derive
from journey.models import boosted, lifetime
from journey.models.assign import SHOP, TILLS
from journey.models.base import Row, State, bounded, log_loss, logit, rounded, rounded_score, sigmoid
from journey.models.baskets import Baskets, Recommender
from journey.models.bayes import Reasons
from journey.models.clusters import Names, SequentialKMeans
from journey.models.content import Content, ContentRanking
from journey.models.drift import Drift
from journey.models.factors import FactorRanking, Factors
from journey.models.lifetime import Buyers
from journey.models.logistic import Logistic
from journey.models.margins import HINGE, PASSIVE, Margin
from journey.models.neighbours import Neighbourhood, Neighbours
from journey.models.progress import Duel, Progress, Quantile, Trust, mean_interval, next_trust
from journey.models.rate import Rate
from journey.models.rules import Rules
from journey.models.spend import Spend
from journey.models.trees import Forest, HoeffdingTree
from journey.samples import CHURN_HORIZON, FAMILIES, LEARN_VERSION, SCHEMA_OF, SCHEMAS, Sample, position_of
from journey.scoring import ENOUGH_GAPS, RECOMMENDED, scorer_of
from journey.triggers import rfc3339

PUBLISH_ROWS: Final = 500
PUBLISH_EVERY: Final = DAY  # of sample time
FIRST_ROWS: Final = 100  # the first version is published so early, untrusted: its scores are what it is judged by
WEEK: Final = 7 * DAY
REFIT_EVERY: Final = 14 * DAY
REFIT_OF: Final = 150 * DAY  # labels that boosted trees are fitted to
REFIT_ROWS: Final = 20_000
REFIT_LEAST: Final = 500
REFIT_LEAST_OF_EACH: Final = 50
PROMOTED_BYTES: Final = 256 * 1024  # a larger snapshot is no candidate
MOST_GAPS: Final = 500
RISKIEST: Final = 0.1
JUDGED: Final = 1_000  # baskets
ASKED: Final = 8
TRUSTED_BASKETS: Final = 100
TRUSTED_SPENDS: Final = 500
DRIFTED: Final = "journey.model_drifted.v1"


class Publication(NamedTuple):
    """A version of a model; ``trained`` is what its envelope says of it."""

    model: str
    version: int
    payload: dict[str, Any]
    trained: dict[str, Any]


class Fit(NamedTuple):
    """A batch fit to be decided once; ``run`` gives the payload."""

    model: str
    version: int
    run: Callable[[], dict[str, Any]]
    trained: dict[str, Any]


class Notice(NamedTuple):
    """An event for the outside about a model: a CloudEvent, whose id is made of its meaning."""

    id: str
    body: dict[str, Any]


Outcome = Publication | Fit | Notice


class Learner:
    """What all families share: which samples were taken, versions, and when to publish.

    Subclasses give ``family`` and the three halves of the work: ``_take``
    learns a sample, ``_told`` and ``_retold`` give and take their state.
    """

    family: str

    def __init__(self) -> None:
        self.learners = LEARN_VERSION  # of the program that began to learn; what it learned stays in what is learned
        self.applied: dict[str, list[int]] = {}  # source: position of the entry, number in it
        self.versions: dict[str, int] = {}
        self.at = 0  # of the newest sample, ms
        self.taken = self.passed_over = 0
        self._days: dict[str, int] = {}  # what was done last when

    def learn(self, sample: Mapping[str, Any]) -> list[Outcome]:
        """Take the next sample; return what is to be published because of it.

        A sample that was taken before changes nothing, and neither does one
        of another schema, or with a row that cannot be learned.
        """
        source, position, number = position_of(sample)
        if [position, number] <= self.applied.get(source, [-1, -1]):
            return []
        self.applied[source] = [position, number]
        if sample["schema"] != SCHEMA_OF[self.family]:
            self.passed_over += 1
            return []
        self.at = max(self.at, sample["at"])
        try:
            return self._take(dict(sample))
        except BadRowError:
            self.passed_over += 1
            return []

    def fitted(self, fit: Fit, payload: Mapping[str, Any]) -> list[Outcome]:
        """Take the outcome of a fit, as it was published."""
        return []

    def state(self) -> State:
        """Return all that the learner is; a restored one goes on bit for bit."""
        return {
            "family": self.family, "learners": self.learners, "versions": dict(self.versions), "at": self.at,
            "applied": {source: list(place) for source, place in self.applied.items()},
            "taken": self.taken, "passed_over": self.passed_over, "days": dict(self._days), "models": self._told(),
        }  # fmt: skip

    def restore(self, state: State) -> None:
        """Become what ``state`` told of.

        Raises
        ------
        BadSnapshotError
            It is of another family or class, or damaged.
        """
        if state.get("family") != self.family:
            text = f"the state of {state.get('family')!r} is none of {self.family}"
            raise BadSnapshotError(text)
        try:
            self.learners = min(int(state.get("learners", 1)), LEARN_VERSION)
            self.applied = {source: list(place) for source, place in state["applied"].items()}
            self.versions, self.at, self._days = dict(state["versions"]), int(state["at"]), dict(state["days"])
            self.taken, self.passed_over = int(state["taken"]), int(state["passed_over"])
            self._retold(state["models"])
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            text = f"the state of {self.family} is damaged: {type(error).__name__}: {error}"
            raise BadSnapshotError(text) from error

    def _take(self, sample: Sample) -> list[Outcome]:
        raise NotImplementedError

    def _told(self) -> State:
        raise NotImplementedError

    def _retold(self, state: State) -> None:
        raise NotImplementedError

    def _version(self, model: str) -> int:
        self.versions[model] = version = self.versions.get(model, 0) + 1
        return version

    def _is_time(self, what: str, every: int = PUBLISH_EVERY) -> bool:
        """Tell whether something is due again, and note that it is done; the first time it is."""
        last = self._days.get(what)
        if last is not None and self.at - last < every:
            return False
        self._days[what] = self.at
        return True

    def _publication(self, model: str, payload: dict[str, Any], metrics: Mapping[str, Any]) -> Publication:
        slot = model.partition(".")[0]
        whole = {
            "slot": slot, "role": "champion" if model == slot else "challenger", "schema": SCHEMA_OF[self.family],
            "names": list(SCHEMAS[SCHEMA_OF[self.family]]), **payload, "metrics": dict(metrics),
        }  # fmt: skip
        return Publication(model, self._version(model), whole, self._trained(metrics, payload["trust"]))

    def _trained(self, metrics: Mapping[str, Any], trust: str) -> dict[str, Any]:
        return {
            "samples": self.taken, "metrics": dict(metrics), "at": self.at, "trust": trust, "learners": self.learners,
        }  # fmt: skip


# ---- churn and intent ------------------------------------------------------------------------------------------------


class Learns(Protocol):
    """A model that learns rows one by one."""

    def learn(self, row: Row, happened: bool) -> None: ...
    def score(self, row: Row) -> float: ...
    def state(self) -> State: ...


class Contestant:
    """A model in a slot, how good the version of each day was, and whether it may decide.

    Parameters
    ----------
    make, back
        Give a new model, and one from its state; None for what is fitted elsewhere.
    every
        Time (ms) between two states that are put away.
    """

    def __init__(
        self, name: str, make: Callable[[], Any] | None, back: Callable[[State], Any] | None, every: int
    ) -> None:
        self.name, self.every, self._back = name, every, back
        self.model: Any = None if make is None else make()
        self.progress, self.duel = Progress(name), Duel(name)
        self.trust: Trust = "cold"
        self.bad = 0
        self.kept: list[tuple[int, State]] = []  # when they were put away, oldest first
        self._scorers: dict[int, Any] = {}

    def keep(self, at: int, horizon: int, state: State | None = None) -> None:
        """Put the present state away, if it is time; forget those that no waiting row needs."""
        if state is None:
            is_early = self.kept and at - self.kept[-1][0] < self.every
            if self.model is None or is_early or self.model.cold or self.model.n < FIRST_ROWS:
                return
            state = self.model.state()
        self.kept.append((at, state))
        while len(self.kept) > 1 and self.kept[1][0] <= at - horizon - DAY:
            self._scorers.pop(self.kept.pop(0)[0], None)

    def state_as_of(self, scored_at: int) -> tuple[int, State] | None:
        """Return the newest state from before a moment."""
        for place in range(len(self.kept) - 1, -1, -1):
            if self.kept[place][0] <= scored_at:
                return self.kept[place]
        return None

    def score_as_of(self, row: Row, scored_at: int) -> float | None:
        """Return what the version of that day would have said; None when there was none."""
        found = self.state_as_of(scored_at)
        if found is None:
            return None
        at, state = found
        scorer = self._scorers.get(at)
        if scorer is None:
            scorer = self._scorers[at] = scorer_of(state)
        return rounded_score(bounded(scorer.score(list(row))))

    def judge(self) -> None:
        """Decide about trust, at a publication."""
        self.trust, self.bad = next_trust(self.trust, self.progress, self.bad)

    def state(self) -> State:
        """Return all that it is."""
        return {
            "model": None if self.model is None else self.model.state(), "progress": self.progress.state(),
            "duel": self.duel.state(), "trust": self.trust, "bad": self.bad,
            "kept": [[at, state] for at, state in self.kept],
        }  # fmt: skip

    def restore(self, state: State) -> None:
        """Become what ``state`` told of."""
        if self._back is not None:
            self.model = self._back(state["model"])
        self.progress, self.duel = Progress.restore(state["progress"]), Duel.restore(state["duel"])
        self.trust, self.bad = state["trust"], int(state["bad"])
        self.kept = [(int(at), kept) for at, kept in state["kept"]]
        self._scorers = {}


class LabelLearner(Learner):
    """Churn or intent: a light champion, its fallback, and challengers that decide nothing.

    Of the champion alone the loss is watched for drift: after an alarm it
    learns twice as fast for 500 labels, and boosted trees are fitted anew.
    """

    horizon: int
    every: int  # between two states of the light models that are put away
    seen: int  # the challengers see one label in so many

    def __init__(self, family: str, first: Callable[[], Any], first_back: Callable[[State], Any]) -> None:
        super().__init__()
        self.family = family
        self.names = SCHEMAS[SCHEMA_OF[family]]
        names = self.names
        self.champion = Contestant(family, lambda: Logistic(names), Logistic.restore, self.every)
        self.fallback = Contestant(f"{family}.fallback", first, first_back, self.every)
        self.challengers = {
            one.name: one
            for one in (
                Contestant(f"{family}.tree", lambda: HoeffdingTree(names), HoeffdingTree.restore, WEEK),
                Contestant(f"{family}.forest", lambda: Forest(names), Forest.restore, WEEK),
                Contestant(f"{family}.svm", lambda: Margin(names, PASSIVE), Margin.restore, self.every),
                Contestant(f"{family}.hinge", lambda: Margin(names, HINGE), Margin.restore, self.every),
            )
        }
        self.boosted = Contestant(f"{family}.boosted", None, None, 0)
        self.blend = Contestant(f"{family}.blend", None, None, 0)
        self.drift = Drift(family)
        self.alarm: dict[str, Any] | None = None
        self.rows: list[list[Any]] = []  # at, row, label: what boosted trees are fitted to
        self._rows_then = 0  # at the last publication

    def _contestants(self) -> list[Contestant]:
        return [self.champion, self.fallback, *self.challengers.values(), self.boosted, self.blend]

    def _take(self, sample: Sample) -> list[Outcome]:
        row, happened, scored_at = sample["x"], bool(sample["y"]), sample["scored_at"]
        at = self.at
        is_seen = self.taken % self.seen == 0
        for one in (self.champion, self.fallback, *(self.challengers.values() if is_seen else ())):
            one.keep(at, self.horizon)
        told = self._compare(row, happened, scored_at, is_seen=is_seen)
        rate = self.drift.rate
        self.champion.model.learn(row, happened, rate)
        self.fallback.model.learn(row[:1], happened)
        for one in self.challengers.values() if is_seen else ():
            one.model.learn(row, happened)
        self.taken += 1
        self.rows.append([at, row, int(happened)])
        if len(self.rows) > REFIT_ROWS:
            del self.rows[0]
        return [*told, *self._publish()]

    def _compare(self, row: Row, happened: bool, scored_at: int, *, is_seen: bool) -> list[Outcome]:
        """Hold the label against what each contestant would have said; watch the champion's loss."""
        ours = self.champion.score_as_of(row, scored_at)
        theirs = self.fallback.score_as_of(row[:1], scored_at)
        self.champion.progress.add(happened, ours, theirs, scored_at)
        if is_seen:
            self._compare_challengers(row, happened, scored_at, ours, theirs)
        if ours is None:
            return []
        alarm = self.drift.add(log_loss(happened, ours), self.at)
        if alarm is None:
            return []
        self.alarm = dict(alarm)
        self._days.pop("refit", None)
        return [drifted(self.family, self.alarm)]

    def _compare_challengers(
        self, row: Row, happened: bool, scored_at: int, ours: float | None, theirs: float | None
    ) -> None:
        said = {one.name: one.score_as_of(row, scored_at) for one in (*self.challengers.values(), self.boosted)}
        trees = said[self.boosted.name]
        said[self.blend.name] = None if trees is None or ours is None else mean_logit(ours, trees)
        for one in (*self.challengers.values(), self.boosted, self.blend):
            score = said[one.name]
            one.progress.add(happened, score, theirs, scored_at)
            if score is not None and ours is not None:
                one.duel.add(happened, ours, score, scored_at)

    def _publish(self) -> list[Outcome]:
        done: list[Outcome] = []
        new = self.taken - self._rows_then
        is_early = self.taken in (FIRST_ROWS, 2 * FIRST_ROWS)
        is_due = self.taken > FIRST_ROWS and (
            new >= PUBLISH_ROWS or self.at - self._days.get("champion", 0) >= PUBLISH_EVERY
        )
        if is_early or is_due:
            self._rows_then = self.taken
            self._days["champion"] = self.at
            done.append(self._champion())
        if self.taken >= REFIT_LEAST and (self._is_time("refit", REFIT_EVERY)):
            done += self._refit()
        if self.taken >= REFIT_LEAST and self._is_time("challengers", WEEK):
            done += [self._challenger(one) for one in self.challengers.values()]
            if self.boosted.kept:
                done.append(self._blended())
        done += self._others()
        return done

    def _others(self) -> list[Outcome]:
        """Publish what else is learned from the same samples."""
        return []

    def _figures(self, one: Contestant) -> dict[str, Any]:
        """Return a contestant's figures, beside the fallback's on the same rows."""
        told = one.progress.figures()
        low, high = one.progress.auc_interval() or (None, None)
        return {
            "labels": told["labels"], "happened": told["happened"], "compared": told["compared"],
            "auc": told["auc"], "auc_low": low, "auc_high": high, "log_loss": told["log_loss"],
            "baseline_log_loss": told["log_loss_fallback"], "ece": told["ece"], "slope": told["slope"],
        }  # fmt: skip

    def _champion(self) -> Publication:
        one = self.champion
        one.judge()
        figures = self._figures(one)
        better, worse = one.progress.gain_interval() or (None, None)
        figures |= {"gain_low": better, "gain_high": worse, "drift": self.alarm, "alarms": self.drift.alarms}
        payload = {
            "class": "logistic/1", "state": one.model.state(), "fallback": self.fallback.model.state(),
            "trust": one.trust, "labels": self.taken,
        }  # fmt: skip
        return self._publication(self.family, payload | self._shop(), figures)

    def _shop(self) -> dict[str, Any]:
        """Return what the champion's snapshot says of the shop."""
        return {}

    def _challenger(self, one: Contestant, state: State | None = None) -> Publication:
        one.judge()
        state = one.model.state() if state is None else state
        verdict = dict(one.duel.verdict())
        size = len(encode(state))
        if size > PROMOTED_BYTES:
            verdict |= {"promote": False, "why": f"its snapshot of {size:,} bytes is larger than {PROMOTED_BYTES:,}"}
        payload = {
            "class": state["class"], "state": state if size <= PROMOTED_BYTES else None, "size": size,
            "fallback": self.fallback.model.state(), "trust": one.trust, "labels": self.taken, "verdict": verdict,
        }  # fmt: skip
        return self._publication(one.name, payload | self._shop(), self._figures(one))

    def _blended(self) -> Publication:
        state = {"class": "blend/1", "linear": self.champion.model.state(), "boosted": self.boosted.kept[-1][1]}
        return self._challenger(self.blend, state)

    def _refit(self) -> list[Outcome]:
        rows = [(row, happened) for at, row, happened in self.rows if at > self.at - REFIT_OF]
        happened = sum(one for _, one in rows)
        if len(rows) < REFIT_LEAST or not REFIT_LEAST_OF_EACH <= happened <= len(rows) - REFIT_LEAST_OF_EACH:
            return []
        name = self.boosted.name
        self.boosted.judge()
        figures = self._figures(self.boosted)
        told = {
            "slot": self.family, "role": "challenger", "schema": SCHEMA_OF[self.family], "names": list(self.names),
            "class": boosted.Boosted.CLASS, "fallback": self.fallback.model.state(), "trust": self.boosted.trust,
            "labels": self.taken, "metrics": figures, "verdict": dict(self.boosted.duel.verdict()), **self._shop(),
        }  # fmt: skip
        run = partial(_boost, [row for row, _ in rows], [label for _, label in rows], self.names, told)
        return [Fit(name, self._version(name), run, self._trained(figures, self.boosted.trust))]

    def fitted(self, fit: Fit, payload: Mapping[str, Any]) -> list[Outcome]:
        """Take boosted trees, as they were published; a fit that failed leaves those there were."""
        state = payload["state"]
        if state is not None:
            self.boosted.keep(self.at, self.horizon, dict(state))
        return []

    def _told(self) -> State:
        return {
            "contestants": {one.name: one.state() for one in self._contestants()}, "drift": self.drift.state(),
            "alarm": self.alarm, "rows": list(self.rows), "rows_then": self._rows_then,
        }  # fmt: skip

    def _retold(self, state: State) -> None:
        for one in self._contestants():
            one.restore(state["contestants"][one.name])
        self.drift = Drift.restore(state["drift"])
        alarm = state["alarm"]  # learners of before told of falls, too
        self.alarm = alarm if alarm is not None and alarm["after"] > alarm["before"] else None
        self.rows = [list(row) for row in state["rows"]]
        self._rows_then = int(state["rows_then"])


def _boost(rows: Sequence[Row], labels: Sequence[int], names: Sequence[str], told: dict[str, Any]) -> dict[str, Any]:
    """Fit boosted trees; where that cannot be done, say why in the snapshot: it is decided all the same."""
    try:
        return {**told, "state": boosted.fit(rows, labels, names)}
    except ModelError as error:
        return {**told, "state": None, "fault": str(error), "verdict": {"promote": False, "why": str(error)}}


def mean_logit(one: float, other: float) -> float:
    """Return the probability half-way between two, on the scale of logits.

    >>> mean_logit(0.2, 0.8)
    0.5
    """
    return rounded_score(sigmoid((logit(one) + logit(other)) / 2.0))


def drifted(slot: str, alarm: Mapping[str, Any]) -> Notice:
    """Return the event that says a slot's losses have risen."""
    name = "dr_" + derive(DRIFTED, slot, str(alarm["at"]))
    body = {
        "specversion": "1.0", "type": DRIFTED, "id": name, "source": f"/models/{slot}", "subject": f"model:{slot}",
        "time": rfc3339(alarm["at"]), "data": {"slot": slot, **alarm},
    }  # fmt: skip
    return Notice(name, body)


class ChurnLearner(LabelLearner):
    """Churn; from the same labels the spend of 30 days; where the riskiest tenth begins, and the median second gap."""

    horizon = CHURN_HORIZON
    every = DAY
    seen = 1

    def __init__(self) -> None:
        super().__init__("churn", lambda: Logistic(("rec",)), Logistic.restore)
        self.spend, self.polynomial = Spend(), Spend(degree=2)
        self.quantile = Quantile()
        self.gaps: list[float] = []

    def _take(self, sample: Sample) -> list[Outcome]:
        if sample["kind"] == "observe":
            self.gaps.append(float(sample["x"][0]))
            del self.gaps[: len(self.gaps) - MOST_GAPS]
            return []
        row = sample["x"]
        score = self.champion.score_as_of(row, sample["scored_at"])
        if score is not None:
            self.quantile.add(score, sample["scored_at"])
        for one in (self.spend, self.polynomial):
            one.learn(row, sample["spent"])
        return super()._take(sample)

    def _shop(self) -> dict[str, Any]:
        ordered = sorted(self.gaps)
        gap = ordered[len(ordered) // 2] if len(ordered) >= ENOUGH_GAPS else None
        return {"theta": self.quantile.exceeded_by(RISKIEST), "second_gap_days": gap}

    def _others(self) -> list[Outcome]:
        if self.taken < FIRST_ROWS or not self._is_time("spend", WEEK):
            return []
        done: list[Outcome] = []
        for name, model in (("spend", self.spend), ("spend.polynomial", self.polynomial)):
            # the slot's own forecast is a decayed sum, however good the regression beside it
            is_useless = model is self.polynomial and (model.r2 is None or model.r2 <= 0.0)
            trust = "cold" if self.taken < TRUSTED_SPENDS else "shadow" if is_useless else "trusted"
            payload = {"class": "spend/1", "state": model.state(), "trust": trust, "labels": self.taken}
            done.append(self._publication(name, payload, {"labels": self.taken, "r2": model.r2}))
        return done

    def _told(self) -> State:
        return super()._told() | {
            "spend": self.spend.state(), "polynomial": self.polynomial.state(), "quantile": self.quantile.state(),
            "gaps": list(self.gaps),
        }  # fmt: skip

    def _retold(self, state: State) -> None:
        super()._retold(state)
        self.spend, self.polynomial = Spend.restore(state["spend"]), Spend.restore(state["polynomial"])
        self.quantile, self.gaps = Quantile.restore(state["quantile"]), [float(gap) for gap in state["gaps"]]


class IntentLearner(LabelLearner):
    """Intent; from the same labels the tables that explain it."""

    horizon = DAY
    every = HOUR
    seen = 4  # labels come by the thousand, and a forest takes ten times as long as the champion

    def __init__(self) -> None:
        super().__init__("intent", Rate, Rate.restore)
        self.reasons = Reasons()

    def _take(self, sample: Sample) -> list[Outcome]:
        self.reasons.learn(sample["x"], bool(sample["y"]))
        return super()._take(sample)

    def _others(self) -> list[Outcome]:
        if self.taken < FIRST_ROWS or not self._is_time("bayes", WEEK):
            return []
        payload = {"class": Reasons.CLASS, "state": self.reasons.state(), "trust": "trusted", "labels": self.taken}
        return [self._publication("bayes", payload, {"labels": self.taken})]

    def _told(self) -> State:
        return super()._told() | {"reasons": self.reasons.state()}

    def _retold(self, state: State) -> None:
        super()._retold(state)
        self.reasons = Reasons.restore(state["reasons"])


# ---- segments --------------------------------------------------------------------------------------------------------


class SegmentLearner(Learner):
    """Behavioural segments; trusted after the warm-up.

    A shop whose rows of the warm-up show no looks and no carts is one of
    tills: it gets the prototypes and the features of those.
    """

    family = "segments"

    def __init__(self) -> None:
        super().__init__()
        self.model: SequentialKMeans = SequentialKMeans()
        self.names = Names(SHOP)
        self._rows_then = 0

    def _take(self, sample: Sample) -> list[Outcome]:
        was_cold, starts = not self.model.trusted, self.model.starts
        self.model.learn(self._row(sample["x"]), self.at)
        self.taken += 1
        if not self.model.trusted:
            return []
        if was_cold and self._is_till():
            self.names = Names(TILLS)
        elif not was_cold and self.model.starts > starts:
            self.model.reorder(self.names.again(self._centres()))
        new = self.taken - self._rows_then
        if not was_cold and new < PUBLISH_ROWS and self.at - self._days.get("champion", 0) < PUBLISH_EVERY:
            return []
        self._rows_then, self._days["champion"] = self.taken, self.at
        labels = list(self.names.look(self._centres(), self.at))
        payload = {
            "class": "clusters/1", "state": self.model.state() | {"buffer": []}, "segment_names": labels,
            "trust": "trusted", "labels": self.taken,
            "centres": [[rounded(value) for value in centre] for centre in self.model.raw_centres()],
            "shares": [rounded(share) for share in self.model.shares],
        }  # fmt: skip
        return [self._publication("segments", payload, {"labels": self.taken, "segments": len(labels)})]

    def _row(self, row: Row) -> list[float]:
        return list(row)

    def _centres(self) -> list[list[float]]:
        columns = [SHOP.names.index(name) for name in self.names.prototypes.names]
        return [[centre[column] for column in columns] for centre in self.model.raw_centres()]

    def _is_till(self) -> bool:
        views, carts = SHOP.names.index("views"), SHOP.names.index("carts")
        return all(centre[views] <= 0.0 and centre[carts] <= 0.0 for centre in self.model.raw_centres())

    def _told(self) -> State:
        return {"model": self.model.state(), "names": self.names.state(), "rows_then": self._rows_then}

    def _retold(self, state: State) -> None:
        self.model, self.names = SequentialKMeans.restore(state["model"]), Names.restore(state["names"])
        self._rows_then = int(state["rows_then"])


# ---- recommendations -------------------------------------------------------------------------------------------------


class RecsLearner(Learner):
    """Recommendations and rules; of every basket it is known beforehand what each ranking would have said.

    The challengers see one basket in eight: they cost a hundred times what
    counting does.
    """

    family = "recs"
    RANKINGS: Final[Mapping[str, Any]] = {
        "recs.content": ContentRanking, "recs.neighbours": Neighbourhood, "recs.factors": FactorRanking,
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.baskets = Baskets()
        self.neighbours, self.factors = Neighbours(), Factors()
        self.hits: dict[str, list[list[float]]] = {}  # ranking: day, recall of its ten
        self.ranked: dict[str, State] = {}  # what was published last
        self._asked: dict[str, Any] = {}
        self._rows_then = 0

    def _take(self, sample: Sample) -> list[Outcome]:
        # when it was, not when it came: partitions of a past that is loaded are weeks apart from each other
        happened: int = sample["happened"] if "happened" in sample else sample["at"]
        items, names = sample["items"], [item[0] for item in sample["items"]]
        profile = {str(item): float(weight) for item, weight in sample["profile"]}
        self._judge(names, profile, sample)
        self.baskets.learn(items, happened, profile)
        if self.taken % ASKED == 0:
            self.neighbours.learn(items, happened, profile)
            self.factors.learn(items, happened, profile)
        self.taken += 1
        done: list[Outcome] = []
        new = self.taken - self._rows_then
        is_due = new >= PUBLISH_ROWS or self.at - self._days.get("champion", 0) >= PUBLISH_EVERY
        if self.taken >= TRUSTED_BASKETS // 2 and is_due:
            self._rows_then, self._days["champion"] = self.taken, self.at
            done.append(self._champion())
        if self.taken >= TRUSTED_BASKETS and self._is_time("challengers", WEEK):
            done += [self._challenger(name) for name in self.RANKINGS]
            rules = Rules.of(self.baskets.pairs)
            payload = {
                "class": Rules.CLASS, "state": rules.published(), "labels": self.taken,
                "trust": "trusted" if rules.found else "cold",
            }  # fmt: skip
            done.append(self._publication("rules", payload, {"labels": self.taken, "rules": len(rules.found)}))
        return done

    def _judge(self, names: Sequence[str], profile: Mapping[str, float], sample: Sample) -> None:
        day = sample["at"] // DAY
        if sample["top"] is not None:
            self._hit("recs", sample["top"], names, day)
        if "recs" not in self.ranked:
            return
        self._hit("popular", self.ranked["recs"]["items"][:RECOMMENDED], names, day)
        if self.taken % ASKED == 0:
            for name, kind in self.RANKINGS.items():
                if name in self.ranked:
                    ranking = self._asked.get(name)
                    if ranking is None:
                        ranking = self._asked[name] = kind.restore(self.ranked[name])
                    self._hit(name, [one.item for one in ranking.recommend(profile, RECOMMENDED)], names, day)

    def _hit(self, name: str, top: Sequence[str], names: Sequence[str], day: int) -> None:
        found = sum(item in names for item in top) / min(RECOMMENDED, len(names))
        known = self.hits.setdefault(name, [])
        known.append([day, rounded(found)])
        if len(known) > JUDGED:
            del known[0]

    def _recall(self, name: str) -> float | None:
        known = self.hits.get(name)
        return sum(hit for _, hit in known) / len(known) if known else None

    def _figures(self, name: str) -> dict[str, Any]:
        known = [(int(day), hit) for day, hit in self.hits.get(name, ())]
        low, high = (mean_interval(known) if len(known) > 1 else None) or (None, None)
        return {
            "labels": self.taken, "compared": len(known), "recall": self._recall(name), "recall_low": low,
            "recall_high": high, "baseline_recall": self._recall("popular"),
        }  # fmt: skip

    def _champion(self) -> Publication:
        state = self.ranked["recs"] = self.baskets.published(self.at)
        ours, theirs = self._recall("recs"), self._recall("popular")
        # nothing is put at risk by showing what sells: it only has to be no worse than that
        is_worse = ours is not None and theirs is not None and ours < theirs
        trust = "cold" if self.taken < TRUSTED_BASKETS else "shadow" if is_worse else "trusted"
        payload = {"class": Recommender.CLASS, "state": state, "trust": trust, "labels": self.taken}
        return self._publication("recs", payload, self._figures("recs"))

    def _challenger(self, name: str) -> Publication:
        models: dict[str, Any] = {"recs.neighbours": self.neighbours, "recs.factors": self.factors}
        model = models.get(name) or Content(self.baskets.facts)
        state = self.ranked[name] = model.published(self.at)
        self._asked.pop(name, None)
        verdict = {"promote": False, "why": "rankings are compared by recall, and promoted by nobody but the operator"}
        payload = {"class": state["class"], "state": state, "trust": "shadow", "labels": self.taken, "verdict": verdict}
        return self._publication(name, payload, self._figures(name))

    def _told(self) -> State:
        return {
            "baskets": self.baskets.state(), "neighbours": self.neighbours.state(), "factors": self.factors.state(),
            "hits": {name: list(known) for name, known in self.hits.items()},
            "ranked": dict(self.ranked), "rows_then": self._rows_then,
        }  # fmt: skip

    def _retold(self, state: State) -> None:
        self.baskets = Baskets.restore(state["baskets"])
        self.neighbours, self.factors = Neighbours.restore(state["neighbours"]), Factors.restore(state["factors"])
        self.hits = {name: [list(hit) for hit in known] for name, known in state["hits"].items()}
        self.ranked, self._asked, self._rows_then = dict(state["ranked"]), {}, int(state["rows_then"])


# ---- lifetime value --------------------------------------------------------------------------------------------------


class ValueLearner(Learner):
    """Lifetime value: fitted once a week to all buyers of that week."""

    family = "value"

    def __init__(self) -> None:
        super().__init__()
        self.buyers = Buyers()

    def _take(self, sample: Sample) -> list[Outcome]:
        self.buyers.observe(sample["x"], sample["at"])
        self.taken += 1
        if not self.buyers.due(self.at):
            return []
        self.buyers.fitted(self.at)
        rows = self.buyers.rows()
        again = sum(row[0] > 0.0 and row[3] > 0.0 for row in rows)
        if len(rows) < lifetime.FEWEST_BUYERS or again < lifetime.FEWEST_AGAIN:
            return []
        metrics = {"labels": len(rows), "again": again}
        told = {
            "slot": "clv", "role": "champion", "schema": SCHEMA_OF["value"], "names": list(SCHEMAS["value/1"]),
            "class": lifetime.Lifetime.CLASS, "labels": len(rows), "metrics": metrics,
        }  # fmt: skip
        trained = self._trained(metrics, "shadow")  # the payload knows better
        return [Fit("clv", self._version("clv"), partial(_fit_value, rows, told), trained)]

    def _told(self) -> State:
        return {"buyers": self.buyers.state()}

    def _retold(self, state: State) -> None:
        self.buyers = Buyers.restore(state["buyers"])


def _fit_value(rows: Sequence[Row], told: dict[str, Any]) -> dict[str, Any]:
    try:
        state = lifetime.fit(rows)
        if state is not None:
            lifetime.Lifetime.restore(state)  # parameters that no shop has are refused here
    except ModelError as error:
        return {**told, "state": None, "trust": "cold", "fault": str(error)}
    return {**told, "state": state, "trust": "cold" if state is None else "trusted"}


_LEARNERS: Final[Mapping[str, Callable[[], Learner]]] = {
    "churn": ChurnLearner, "intent": IntentLearner, "segments": SegmentLearner, "recs": RecsLearner,
    "value": ValueLearner,
}  # fmt: skip


def new_learner(family: str) -> Learner:
    """Return the learner of a family before it has seen anything."""
    return _LEARNERS[family]()


def restore_learner(state: State) -> Learner:
    """Return the learner that had this state; it goes on bit for bit.

    Raises
    ------
    BadSnapshotError
        It is none, or damaged.
    """
    family = str(state.get("family"))
    if family not in _LEARNERS:
        text = f"there is no family {family!r}"
        raise BadSnapshotError(text)
    learner = _LEARNERS[family]()
    learner.restore(state)
    return learner


__all__ = [
    "FAMILIES", "Fit", "Learner", "Notice", "Publication", "new_learner", "restore_learner",
]  # fmt: skip

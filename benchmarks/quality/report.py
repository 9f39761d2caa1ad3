"""The lines of the table: a figure with its interval, what is trivial, what could be had, what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan, nan
from typing import Any, Final, NamedTuple

from benchmarks.quality import ceilings
from benchmarks.quality.ceilings import Floats
from benchmarks.quality.data import Click, Look, Owned, Run, of_family
from journey.events import DAY
from journey.models.assign import SHOP
from journey.models.baskets import Recommender
from journey.models.logistic import Logistic
from journey.samples import SCHEMAS, Sample
from streams.audits import (
    Centres,
    Figure,
    Quality,
    Resampling,
    Scored,
    SegmentsAudit,
    audit_rules,
    audit_segments,
    batch_models,
    fitted,
    mean_of,
    predicted,
    quality,
)

WARM_LABELS: Final = 500
MAP_ROWS: Final = 5000
BASKETS: Final = 15_000
BLEND: Final = "churn.blend"


class Line(NamedTuple):
    """One line of the table.

    ``goal`` None: nothing was asked for, ``reached`` is None too.
    """

    slot: str
    data: str
    rows: int
    figure: str
    value: Figure
    trivial: Figure | None = None
    ceiling: str = ""
    goal: str = ""
    reached: bool | None = None
    digits: int = 3


HEAD: Final = ("slot", "data", "rows", "figure", "value [95 %]", "trivial", "batch, same run", "goal", "reached")


def markdown(lines: Sequence[Line]) -> str:
    """Return the table as Markdown.

    >>> print(markdown([Line("churn", "shop", 10, "AUC", Figure(0.5, 0.4, 0.6), None, "0.6", "> 0.4", True)]))
    | slot | data | rows | figure | value [95 %] | trivial | batch, same run | goal | reached |
    |---|---|--:|---|--:|--:|---|---|---|
    | churn | shop | 10 | AUC | 0.500 [0.400, 0.600] |  | 0.6 | > 0.4 | yes |
    """
    table = [f"| {' | '.join(HEAD)} |", "|---|---|--:|---|--:|--:|---|---|---|"]
    for line in lines:
        reached = {True: "yes", False: "**no**", None: ""}[line.reached]
        trivial = "" if line.trivial is None else f"{line.trivial.value:.{line.digits}f}"
        cells = (
            line.slot, line.data, f"{line.rows:,}", line.figure, line.value.shown(line.digits), trivial, line.ceiling,
            line.goal, reached,
        )  # fmt: skip
        table.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(table)


# --- churn and intent --------------------------------------------------------


class Evaluated(NamedTuple):
    """The late rows of a probability, and what each model said of them."""

    customers: list[str]
    happened: list[float]
    samples: list[Sample]
    known: list[Sample]  # all samples of the run
    silent: int  # late rows without a score: not counted


def evaluated(owned: Sequence[Owned], cut: int) -> Evaluated:
    """Return the rows that were scored from the cut on, by the model in force and by its fallback."""
    late = [(customer, sample) for customer, sample in owned if sample["scored_at"] >= cut]
    told = [(customer, sample) for customer, sample in late if sample["p"] is not None and sample["q"] is not None]
    return Evaluated(
        [customer for customer, _ in told],
        [float(sample["y"]) for _, sample in told],
        [sample for _, sample in told],
        [sample for _, sample in owned],
        len(late) - len(told),
    )


def probability_lines(
    slot: str, data: str, rows: Evaluated, cut: int, *, below_batch: float, above_trivial: float, most_ece: float
) -> tuple[list[Line], list[Quality]]:
    """Return AUC, log-loss and ECE of the model in force, and the qualities for a picture.

    Parameters
    ----------
    below_batch
        So far the AUC may be below that of the batch logistic regression of the same run.
    above_trivial
        So far it has to be above the fallback's.
    """
    resampling = Resampling(rows.customers)
    champion = quality("champion", rows.happened, [sample["p"] for sample in rows.samples], resampling)
    trivial = quality("fallback", rows.happened, [sample["q"] for sample in rows.samples], resampling)
    batch = {
        "LR": Scored(rows.happened, ceilings.frozen(rows.known, rows.samples, cut, ceilings.LR)),
        "HGB": Scored(rows.happened, ceilings.frozen(rows.known, rows.samples, cut, ceilings.BOOSTED)),
    }
    if rows.samples and rows.samples[-1]["scored_at"] - cut > 2 * ceilings.REFIT_EVERY:
        batch["HGB refit"] = Scored(rows.happened, ceilings.refitted(rows.known, rows.samples, cut))
    least = max(batch["LR"].auc() - below_batch, trivial.auc.value + above_trivial)
    number = len(rows.samples)

    def told(take: Callable[[Scored], float], digits: int) -> str:
        return ", ".join(f"{name} {take(scored):.{digits}f}" for name, scored in batch.items())

    lines = [
        Line(
            slot, data, number, "AUC", champion.auc, trivial.auc, told(Scored.auc, 4), f"≥ {least:.4f}",
            champion.auc.value >= least, 4,
        ),
        Line(
            slot, data, number, "log-loss", champion.log_loss, trivial.log_loss, told(Scored.log_loss, 4),
            "below trivial", champion.log_loss.value < trivial.log_loss.value, 4,
        ),
        Line(
            slot, data, number, "ECE", champion.ece, trivial.ece, told(Scored.ece, 3), f"≤ {most_ece:g}",
            champion.ece.value <= most_ece,
        ),
    ]  # fmt: skip
    return lines, [champion, trivial]


def challenger_lines(
    slot: str, data: str, owned: Sequence[Owned], scores: Sequence[float | None], cut: int, name: str
) -> list[Line]:
    """Return a challenger's figures, and its gain over the champion on the same rows, by customer."""
    rows = [
        (customer, sample, score)
        for (customer, sample), score in zip(owned, scores, strict=True)
        if sample["scored_at"] >= cut and sample["p"] is not None and score is not None
    ]
    happened = [float(sample["y"]) for _, sample, _ in rows]
    resampling = Resampling([customer for customer, _, _ in rows])
    one, other = Scored(happened, [score for _, _, score in rows]), Scored(happened, [s["p"] for _, s, _ in rows])
    champion = [Figure(take()) for take in (other.auc, other.log_loss, other.ece)]

    def gain(weights: Floats | None) -> float:
        return one.auc(weights) - other.auc(weights)

    def less(weights: Floats | None) -> float:
        return one.log_loss(weights) - other.log_loss(weights)

    better = resampling.figure(less)
    return [
        Line(slot, data, len(rows), f"AUC, {name}", resampling.figure(one.auc), champion[0], digits=4),
        Line(slot, data, len(rows), f"log-loss, {name}", resampling.figure(one.log_loss), champion[1], digits=4),
        Line(slot, data, len(rows), f"ECE, {name}", resampling.figure(one.ece), champion[2]),
        Line(slot, data, len(rows), f"AUC, {name} less champion", resampling.figure(gain), digits=4),
        Line(
            slot, data, len(rows), f"log-loss, {name} less champion", better, goal="below 0", reached=better.high < 0,
            digits=4,
        ),
    ]  # fmt: skip


def small_shop_line(households: int, data: str, owned: Sequence[Owned]) -> Line:
    """Return the AUC in a small shop once it has 500 labels, against recency."""
    samples = [sample for _, sample in owned]
    rows = [
        (customer, sample)
        for (customer, sample), known in zip(owned, ceilings.labels_before(samples), strict=True)
        if known >= WARM_LABELS and sample["p"] is not None and sample["q"] is not None
    ]
    happened = [float(sample["y"]) for _, sample in rows]
    resampling = Resampling([customer for customer, _ in rows])
    ours = resampling.figure(Scored(happened, [sample["p"] for _, sample in rows]).auc)
    theirs = Figure(Scored(happened, [sample["q"] for _, sample in rows]).auc())
    return Line(
        "churn", f"{data}, {households} households", len(rows), f"AUC from {WARM_LABELS} labels on", ours, theirs,
        goal="above trivial", reached=ours.value > theirs.value,
    )  # fmt: skip


def quarter_lines(
    data: str, rows: Sequence[Sample], rfm: Sequence[Sample], cut: int, horizon: int, reference: float
) -> list[Line]:
    """Return the AUC, at a cut, of who will not order within a horizon: of all buyers, learned from those before.

    Parameters
    ----------
    rows
        Labelled, in the order of time; those whose horizon ends by the cut are learned one by one.
    rfm
        The same, with recency, frequency and money as features: for logistic regression by batch.
    reference
        What logistic regression on recency, frequency and money had in an earlier study.
    """
    model = Logistic(SCHEMAS["churn/1"])
    known = [row for row in rows if row["scored_at"] + horizon <= cut]
    late = [row for row in rows if row["scored_at"] == cut]
    for row in known:
        model.learn(row["x"], bool(row["y"]))
    happened = [float(row["y"]) for row in late]
    resampling = Resampling([row["customer"] for row in late])
    scored = Scored(happened, [model.score(row["x"]) for row in late])
    ours = resampling.figure(scored.auc)
    recency = Scored(happened, [row["x"][0] for row in late]).auc()
    batch = Scored(happened, predicted(fitted(batch_models()[ceilings.LR], known), late)).auc()
    taught = fitted(batch_models()[ceilings.LR], rfm[: len(known)])
    simple = Scored(happened, predicted(taught, [row for row in rfm if row["scored_at"] == cut]))
    more = resampling.figure(lambda weights: scored.auc(weights) - simple.auc(weights))
    named = f"AUC of {horizon // DAY} days, all buyers"
    batches = f"LR {batch:.3f}, LR on RFM {simple.auc():.3f}"
    return [
        Line(
            "churn", data, len(late), named, ours, Figure(recency), batches, f"above {reference:g}",
            ours.value > max(recency, reference),
        ),
        Line("churn", data, len(late), f"{named}, less LR on RFM of this run", more, goal="> 0", reached=more.low > 0),
    ]  # fmt: skip


# --- segments ----------------------------------------------------------------


def segment_lines(
    data: str, looks: Sequence[Look], truth: Callable[[str, int], str] | None, *, most_flips: float, since: int = 0,
    least: float = 0.0,
) -> list[Line]:  # fmt: skip
    """Return how steady segments are, and, where the truth was planted, how far they agree with it.

    Parameters
    ----------
    truth
        (customer, ms) -> what a customer was then; None: nobody knows.
    since, least
        From when on (ms) segments have to agree with the truth, and how much.
    """
    known = [look for look in looks if look.segment is not None]
    customers, changed = ceilings.flips(known)
    share = Resampling(customers).figure(mean_of(changed)) if customers else Figure(nan)
    swapped = ceilings.swapped_names(known)
    lines = [
        Line(
            "segments", data, len(customers), "changed segment in a week, with hysteresis", share,
            goal=f"≤ {most_flips:g}", reached=None if isnan(share.value) else share.value <= most_flips,
        ),
        Line(
            "segments", data, len({look.at for look in known}), "names that went to another segment",
            Figure(float(swapped)), goal="0", reached=swapped == 0 if known else None, digits=0,
        ),
    ]  # fmt: skip
    known = [look for look in known if look.at >= since]
    if truth is not None and known:
        wanted = [truth(look.customer, look.at) for look in known]
        found = [look.segment for look in known if look.segment is not None]
        resampling = Resampling([look.customer for look in known])
        ours = resampling.figure(ceilings.weekly_ari(known, wanted, found))
        ceiling = ceilings.weekly_ari(known, wanted, ceilings.supervised(known, wanted))(None)
        weekly = ceilings.weekly_ari(known, wanted, ceilings.batch_every_week(known, len(set(found))))(None)
        described = [sorted(SHOP.rows).index(SHOP.assign(look.x)) for look in known]
        trivial = ceilings.weekly_ari(known, wanted, described)(None)
        lines.insert(
            0,
            Line(
                "segments", data, len(known), "agreement with what was planted (ARI)", ours, Figure(trivial),
                f"k-means of each week {weekly:.3f}, HGB told the truth of others {ceiling:.3f}",
                f"≥ {max(trivial, least):.2f}", ours.value >= max(trivial, least),
            ),
        )  # fmt: skip
    return lines


def squares_line(data: str, owned: Sequence[Owned], today: Centres, newest: int, most: float) -> Line:
    """Return the sum of squares of the streaming centres over that of batch k-means, on the newest rows."""
    columns = [SCHEMAS["segments/1"].index(name) for name in today.features]
    recent = owned[-newest:]
    rows = [[sample["x"][column] for column in columns] for _, sample in recent]
    ours, batch = ceilings.against_batch(rows, today)
    resampling = Resampling([customer for customer, _ in recent])
    found = resampling.figure(ceilings.ratio(ours, batch))
    name = f"sum of squares / batch k-means, newest {newest:,} rows"
    return Line(
        "segments", data, len(rows), name, found, None, "1", f"≤ {most:g}", found.value <= most,
    )  # fmt: skip


def segments_of(owned: Sequence[Owned], today: Centres | None) -> SegmentsAudit:
    """Return the audit of the newest rows, for a map."""
    return audit_segments([sample["x"] for _, sample in owned[-MAP_ROWS:]], SCHEMAS["segments/1"], today)


# --- recommendations and rules -----------------------------------------------


def recommender_of(snapshots: Mapping[tuple[str, int], Any]) -> Callable[[Sample], ceilings.Recommend | None]:
    """Return what was in force for a sample, from what was published; each version is read once."""
    held: dict[int, Recommender] = {}

    def found(sample: Sample) -> ceilings.Recommend | None:
        number = sample["model_version"]
        if number is None or ("recs", number) not in snapshots:
            return None
        if number not in held:
            held[number] = Recommender.restore(snapshots["recs", number]["state"])
        recommender = held[number]

        def ask(profile: Mapping[str, float], gone: Sequence[str]) -> list[str]:
            return [one.item for one in recommender.recommend(profile, ceilings.LISTED, gone)]

        return ask

    return found


def basket_lines(
    data: str,
    run: Run,
    *,
    above_popular: float,
    least_new: float | None = None,
    looked_at: Callable[[str, int], bool] = ceilings.a_fifth,
) -> list[Line]:
    """Return recall at ten of the next basket, of all of it and of what was new to the customer."""
    found = ceilings.next_baskets(of_family(run, "recs"), recommender_of(run.snapshots), looked_at)
    least = _of(found.customers, found.all[ceilings.POPULAR])[0].value + above_popular
    return [
        _basket_line(data, "recall@10", found.customers, found.all, least),
        _basket_line(data, "recall@10, new in 90 days", found.customers, found.new, least_new),
    ]


def reference_lines(data: str, run: Run, *, least_new: float) -> list[Line]:
    """Return the same of the baskets that the reference figures are of; all of them at least as personal + popular."""
    found = ceilings.next_baskets(of_family(run, "recs"), recommender_of(run.snapshots), ceilings.of_the_reference)
    personal = _of(found.customers, found.all[ceilings.PERSONAL])[0].value
    return [
        _basket_line(data, "recall@10", found.customers, found.all, personal),
        _basket_line(data, "recall@10, new in 90 days", found.customers, found.new, least_new),
    ]


def _basket_line(
    data: str, name: str, customers: Sequence[str], each: Mapping[str, Sequence[float]], least: float | None
) -> Line:
    ours, rows = _of(customers, each[ceilings.CHAMPION])
    popular, _ = _of(customers, each[ceilings.POPULAR])
    personal, _ = _of(customers, each[ceilings.PERSONAL])
    return Line(
        "recs", data, rows, name, ours, popular, f"personal + popular {personal.value:.3f}",
        "" if least is None else f"≥ {least:.3f}",
        None if least is None or isnan(ours.value) else ours.value >= least,
    )  # fmt: skip


def _of(customers: Sequence[str], values: Sequence[float]) -> tuple[Figure, int]:
    held = [(customer, value) for customer, value in zip(customers, values, strict=True) if not isnan(value)]
    if not held:
        return Figure(nan), 0
    return Resampling([customer for customer, _ in held]).figure(mean_of([value for _, value in held])), len(held)


def click_lines(data: str, clicks: Sequence[Click], begin: int) -> list[Line]:
    """Return how often the next view was of a recommended item, beside the ten items seen last."""
    hits = ceilings.next_clicks(clicks, begin)
    ranked, rows = _of(hits.customers, hits.ranked)
    shown, _ = _of(hits.customers, hits.shown)
    seen, _ = _of(hits.customers, hits.recent)
    is_better = ranked.value > seen.value
    return [
        Line("recs", data, rows, "next view, hit@10", ranked, seen, goal="above trivial", reached=is_better),
        Line("recs", data, rows, "next view, hit@10, without cart and just bought", shown, seen),
    ]


def rules_line(
    data: str, baskets: Sequence[Sequence[str]], streaming: Sequence[tuple[str, str, float, float, float]]
) -> Line:
    """Return how many rules there are, and whether FP-growth finds the same."""
    found = audit_rules(baskets, streaming)
    return Line(
        "rules", data, found.baskets, "rules", Figure(float(len(streaming))), None,
        f"FP-growth {len(found.found)}, largest difference {found.difference:.0e}", "the same set", found.same, 0,
    )  # fmt: skip


# --- value -------------------------------------------------------------------


def value_lines(
    data: str,
    buyers: Sequence[ceilings.Buyer],
    orders: Callable[[ceilings.Buyer], float],
    money: Callable[[ceilings.Buyer], float],
    weeks: float,
) -> list[Line]:
    """Return how well orders and money of the weeks after the cut were foreseen, beside each buyer's past pace."""
    resampling = Resampling([buyer.customer for buyer in buyers])
    expected, worth = [orders(buyer) for buyer in buyers], [money(buyer) for buyer in buyers]
    naive = [ceilings.past_rate(buyer, weeks) for buyer in buyers]
    naive_worth = [rate * buyer.mean for rate, buyer in zip(naive, buyers, strict=True)]
    after, spent = [float(buyer.orders) for buyer in buyers], [buyer.money for buyer in buyers]
    lines = []
    for name, ours, theirs, truth in (
        ("orders", expected, naive, after),
        ("money", worth, naive_worth, spent),
    ):
        r = resampling.figure(ceilings.correlation(ours, truth))
        past = Figure(ceilings.correlation(theirs, truth)(None))
        least = past.value + 0.01
        lines.append(
            Line("clv", data, len(buyers), f"r, {name}", r, past, goal=f"≥ {least:.3f}", reached=r.value >= least)
        )
    share = resampling.figure(ceilings.ratio(expected, after))
    naive_share = Figure(sum(naive) / sum(after))
    lines.append(
        Line(
            "clv", data, len(buyers), f"orders expected / true ({sum(after):,.0f})", share, naive_share,
            goal="0.8 to 1.2", reached=0.8 <= share.value <= 1.2,
        )
    )  # fmt: skip
    return lines


def published_line(found: float) -> Line:
    """Return the example that the authors of BG/NBD printed, beside what the formula gives here."""
    return Line(
        "clv", "CDNOW, as published", 1, "orders in 39 weeks of a buyer (2, 30.43, 38.86)", Figure(found), None,
        "printed: 1.226", "equal to 3 digits", round(found, 3) == 1.226,
    )  # fmt: skip

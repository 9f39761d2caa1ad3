"""What operators see of models, in 80 columns, and to which version a rollback goes."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from journey.adoptions import Standing
from journey.models.baskets import Pairs
from journey.models.rules import Rules
from streams.cli_models import before, show, show_rules
from streams.errors import NotFoundError, SlotError

NOW = 1_795_162_442_000
HOUR = 3_600_000


def envelope(model: str, version: int, **fields: Any) -> dict[str, Any]:
    metrics = {
        "labels": 400_000, "auc": 0.8587, "auc_low": 0.8467, "auc_high": 0.8707, "log_loss": 0.2699,
        "baseline_log_loss": 0.3147, "ece": 0.016, "slope": 0.98, "drift": None,
    }  # fmt: skip
    return {
        "model": model, "version": version, "slot": "churn", "role": "champion", "samples": 1_234_567,
        "trust": "trusted", "metrics": metrics, "at": NOW - 30 * HOUR, "bytes": 123_456, "verdict": None,
    } | fields  # fmt: skip


def shown(*, verbose: bool = False, **told: Any) -> str:
    out = StringIO()
    slot: dict[str, Any] = {"frozen": False, "in_force": None, "newest": None, "others": []}
    show(Console(file=out, width=80, highlight=False), "churn", slot | told, NOW, verbose=verbose)
    return out.getvalue()


def test_a_slot_fits_80_columns() -> None:
    text = shown(
        in_force=envelope("churn", 1_000_042), newest=1_000_042,
        others=[
            envelope("churn.hoeffding_tree", 1_000_007, role="challenger"), envelope("churn.new", 1, metrics={}),
            {"model": "churn.forged", "version": 3, "fault": "it is not ours"},
        ],
    )  # fmt: skip
    assert max(map(len, text.splitlines())) <= 80
    assert "churn: churn/1000042 is in force\n" in text
    assert ".859 .847-.871" in text
    assert "churn.forged/3: it is not ours" in text
    for figure in ("1,234,567", "trusted", ".270", ".315", "1d", "123.5k"):
        assert figure in text


def test_it_says_what_an_operator_should_know() -> None:
    drift = {"slot": "churn", "at": NOW, "since": NOW - 100 * HOUR, "before": 0.31, "after": 0.42, "losses": 1_234}
    drifting = envelope("churn", 42) | {"metrics": {"log_loss": 0.42, "drift": drift}}
    better = envelope("churn.boosted", 7, verdict={"promote": True, "text": "better in two windows of 14 days"})
    text = shown(in_force=drifting, newest=43, frozen=True, others=[better])
    for told in (
        "(newest: 43), frozen: nothing is adopted by itself",
        "churn/42 saw a drift at 2026-11-20T08:14, since 2026-11-16, log-loss .310 ->",
        "churn.boosted/7: better in two windows of 14 days", "journey promote churn.boosted/7",
    ):  # fmt: skip
        assert told in text


def test_the_verdict_on_a_challenger_that_is_not_better_is_told_only_when_asked_for() -> None:
    why = "; ".join(f"log-loss +0.00{number} [-0.0142, +0.0235] is not surely lower" for number in range(3))
    worse = envelope("churn.svm", 7, verdict={"promote": False, "why": why})
    assert "surely" not in shown(others=[worse])
    text = shown(others=[worse], verbose=True)
    assert "churn.svm/7: log-loss +0.000" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "to put it in force" not in text


def test_rankings_and_forecasts_have_figures_of_their_own() -> None:
    recall = {"labels": 9, "recall": 0.57, "recall_low": 0.551, "recall_high": 0.628, "baseline_recall": 0.19}
    ranks = shown(in_force=envelope("recs", 116, metrics=recall), others=[envelope("recs.content", 21, metrics={})])
    assert "recall (95 %)" in ranks
    assert ".570 .551-.628" in ranks
    assert "popular" in ranks
    assert ".190" in ranks
    assert "AUC" not in ranks
    spends = shown(in_force=envelope("spend", 18, metrics={"labels": 9, "r2": 0.4931}))
    assert "R2" in spends
    assert ".493" in spends
    assert "6 segments" in shown(in_force=envelope("segments", 123, metrics={"labels": 9, "segments": 6}))


def test_rules_are_listed_with_what_they_rest_on() -> None:
    pairs = Pairs()
    for basket in (["ink", "pen"],) * 30 + (["cup", "pen"],) * 25 + (["tea"],) * 70:
        pairs.learn(basket)
    rules = Rules.of(pairs)

    def listed(item: str | None = None, most: int = 20) -> list[str]:
        out = StringIO()
        show_rules(Console(file=out, width=80, highlight=False), 7, rules, item, most)
        return [" ".join(line.split()) for line in out.getvalue().splitlines()]

    assert listed() == [
        "rules/7: 4 rules, counted in 125 orders",
        "who buys also buys orders with both confidence lift",
        "cup pen 25 1.00 2.3", "ink pen 30 1.00 2.3", "pen cup 25 0.45 2.3", "pen ink 30 0.55 2.3",
    ]  # fmt: skip
    assert listed("ink")[0] == "rules/7: 1 rule from ink, counted in 125 orders"
    assert listed("ink")[2:] == ["ink pen 30 1.00 2.3"]
    assert listed(most=1)[2:] == ["cup pen 25 1.00 2.3", "and 3 more: --most 4"]
    assert listed("tea") == ["rules/7: 0 rules from tea, counted in 125 orders"]


def test_an_empty_slot_is_told_as_such() -> None:
    assert "nothing is in force" in shown(others=[envelope("churn.rival", 1)])


def after(*adopted: tuple[str, int]) -> Standing:
    standing = Standing()
    for model, version in adopted:
        replaces = standing.version_in("churn")
        message = {"k": "adopt", "slot": "churn", "model": model, "version": version, "replaces": replaces}
        assert standing.take(message | {"sha256": "9b1d"})
    return standing


@pytest.mark.parametrize(
    ("adopted", "goes_to"),
    [
        ([41, 42], 41), ([41, 42, 43], 42), ([41, 42, 43, 42], 41), ([40, 41, 42, 41, 43], 41),
    ],
)  # fmt: skip
def test_a_rollback_goes_to_what_was_in_force_before_and_a_second_one_further(adopted: list[int], goes_to: int) -> None:
    assert before(after(*(("churn", version) for version in adopted)), "churn", None) == ("churn", goes_to)


def test_a_promotion_is_rolled_back_to_the_former_champion() -> None:
    assert before(after(("churn", 41), ("churn.boosted", 7)), "churn", None) == ("churn", 41)


def test_a_rollback_to_a_version_takes_only_what_was_in_force() -> None:
    standing = after(("churn", 41), ("churn.boosted", 7), ("churn.boosted", 8))
    assert before(standing, "churn", 41) == ("churn", 41)
    with pytest.raises(SlotError, match="lately there were 41, 7, 8"):
        before(standing, "churn", 40)


def test_where_there_is_nothing_to_go_back_to_it_says_so() -> None:
    with pytest.raises(SlotError, match="nothing was in force before churn/41"):
        before(after(("churn", 41)), "churn", None)
    with pytest.raises(NotFoundError, match="slots with a model: churn"):
        before(after(("churn", 41)), "chrun", None)

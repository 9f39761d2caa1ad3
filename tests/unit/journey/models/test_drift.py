"""Drift: an alarm when losses change, none when they do not, and the same alarms after a restart."""

from __future__ import annotations

import math

import pytest

from journey.entries import encode
from journey.errors import BadRowError
from journey.events import DAY, MINUTE
from journey.models.base import chance
from journey.models.drift import Alarm, Drift, change_of


def loss(number: int, mean: float, key: str = "loss") -> float:
    return 2.0 * mean * chance(key, str(number))


def told(drift: Drift, numbers: range, mean: float, apart: int = MINUTE) -> list[Alarm]:
    alarms = [drift.add(loss(number, mean), number * apart) for number in numbers]
    return [alarm for alarm in alarms if alarm is not None]


def test_losses_that_stay_as_they_are_make_no_alarm() -> None:
    assert told(Drift("churn"), range(20_000), 0.35) == []


def test_a_change_makes_one_alarm_that_tells_when_and_how_much() -> None:
    drift = Drift("churn")
    assert told(drift, range(3_000), 0.35) == []
    first, *more = told(drift, range(3_000, 6_000), 0.55)
    assert not more
    assert first["slot"] == "churn"
    assert 3_000 * MINUTE < first["at"] < 3_500 * MINUTE
    assert first["since"] == pytest.approx(3_000 * MINUTE, abs=40 * MINUTE)
    assert first["before"] == pytest.approx(0.35, abs=0.02)
    assert first["after"] == pytest.approx(0.55, abs=0.1)
    assert first["losses"] == first["at"] // MINUTE + 1
    assert drift.alarms == 1


def test_losses_that_become_lower_make_no_alarm_and_a_rise_after_it_does() -> None:
    drift = Drift("churn")
    assert told(drift, range(6_000), 0.55) == told(drift, range(6_000, 9_000), 0.35) == []
    assert (drift.alarms, drift.rate) == (0, 1.0)
    assert len(drift.state()["losses"]) <= 3_010, "what came before the fall is forgotten"
    (alarm,) = told(drift, range(9_000, 9_600), 0.55)
    assert 0.34 < alarm["before"] < 0.38
    assert alarm["after"] > 0.5


def test_a_rise_soon_after_a_fall_is_told() -> None:
    levels = [0.72] * 2_500 + [0.49] * 80 + [0.92] * 2_000
    drift = Drift("churn")
    alarms = [drift.add(level + (0.1 if n % 2 else -0.1), n * MINUTE) for n, level in enumerate(levels)]
    told = [(n, alarm) for n, alarm in enumerate(alarms) if alarm is not None]
    assert told
    assert 2_500 < told[0][0] < 3_500
    assert told[0][1]["after"] > told[0][1]["before"]


def test_the_second_opinion_is_recorded_whether_it_agrees_or_not() -> None:
    clear, slight = Drift("churn"), Drift("churn")
    told(clear, range(3_000), 0.35)
    (alarm,) = told(clear, range(3_000, 3_100), 1.5)
    assert alarm["seconded"] is not None
    assert 3_000 < alarm["seconded"] <= alarm["losses"]
    told(slight, range(3_000), 0.35)
    (alarm,) = told(slight, range(3_000, 3_100), 0.9)
    assert alarm["seconded"] is None  # Page-Hinkley would have taken longer


def test_after_an_alarm_500_labels_are_learned_at_twice_the_rate() -> None:
    drift = Drift("churn")
    told(drift, range(2_000), 0.3)
    assert drift.rate == 1.0
    number = 2_000
    while not drift.alarms:
        drift.add(loss(number, 0.9), number * MINUTE)
        number += 1
    rates = []
    for later in range(number, number + 502):
        rates.append(drift.rate)
        drift.add(loss(later, 0.9), later * MINUTE)
    assert rates == [2.0] * 500 + [1.0] * 2


@pytest.mark.parametrize("stop", [100, 1_999, 3_050, 5_200, 7_777])
def test_stopped_anywhere_it_alarms_as_if_it_had_never_stopped(stop: int) -> None:
    def mean(number: int) -> float:
        return 0.35 if number // 1_500 % 2 == 0 else 0.5

    went_on, stopped = Drift("churn", kept=2_000), Drift("churn", kept=2_000)
    alarms: list[Alarm | None] = []
    others: list[Alarm | None] = []
    for number in range(10_000):
        if number == stop:
            stopped = Drift.restore(stopped.state())
        alarms.append(went_on.add(loss(number, mean(number)), number * 15 * MINUTE))
        others.append(stopped.add(loss(number, mean(number)), number * 15 * MINUTE))
    assert alarms == others
    assert went_on.alarms >= 3
    assert encode(went_on.state()) == encode(stopped.state())


def test_no_more_than_so_many_losses_are_kept() -> None:
    drift = Drift("churn", kept=1_000)
    most = 0
    for number in range(5_000):
        drift.add(loss(number, 0.35), number)
        most = max(most, len(drift.state()["losses"]))
    assert most == 1_000


def test_losses_of_more_than_30_days_ago_are_forgotten() -> None:
    drift = Drift("churn")
    for day in range(100):
        drift.add(0.35, day * DAY + 5)
    assert [at // DAY for at, _ in drift.state()["losses"]] == list(range(69, 100))


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1])
def test_what_is_no_loss_is_refused_and_changes_nothing(value: float) -> None:
    drift = Drift("churn")
    told(drift, range(100), 0.35)
    before = encode(drift.state())
    with pytest.raises(BadRowError):
        drift.add(value, 100 * MINUTE)
    assert encode(drift.state()) == before


def test_the_likeliest_change_has_five_losses_on_either_side() -> None:
    assert change_of([0.0, 0.0] + [1.0] * 18) == 5
    assert change_of([0.0] * 18 + [1.0, 1.0]) == 15
    assert change_of([0.0] * 9 + [1.0] * 11) == 9

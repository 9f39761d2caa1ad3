"""Why a customer has a score, by the model that gave it; alarms in one line."""

from __future__ import annotations

from typing import Any

import pytest

from journey.documents import UNAIDED, Sight
from journey.errors import MissingModelError
from journey.models.bayes import Reasons
from journey.models.logistic import Logistic
from journey.models.rate import Rate
from journey.samples import SCHEMAS
from journey.scoring import load
from streams.inspect import alarm_line, explanations

AT = 1_795_162_442_000
ROW = [0.0] * 14
ALARM = {"slot": "churn", "at": AT, "since": AT, "before": 0.31, "after": 0.42, "losses": 1_234, "seconded": 40}


def payload(slot: str, rows: int) -> dict[str, Any]:
    """Return a model that says: the larger the first feature, the likelier."""
    schema = f"{slot}/1"
    model = Logistic(SCHEMAS[schema])
    for number in range(rows):
        model.learn([number % 7 / 2, *ROW[1:]], number % 7 > 3)
    return {
        "schema": schema, "names": list(SCHEMAS[schema]), "state": model.state(), "fallback": Rate(10, 4).state(),
        "trust": "trusted", "labels": rows,
    }  # fmt: skip


class Published:
    """What was published, by name and version."""

    def __init__(self, **models: dict[int, dict[str, Any]]) -> None:
        self.models = {name.replace("_", "."): versions for name, versions in models.items()}

    async def get(self, name: str, version: int) -> dict[str, Any]:
        try:
            return self.models[name][version]
        except KeyError:
            raise MissingModelError(model=name, version=version, text="there is none") from None

    def said(self, name: str, version: int, row: list[float]) -> float:
        loaded: Any = load(name, version, self.models[name][version])
        return float(loaded.ask(row)[0])

    async def explain(self, customer: dict[str, Any], sight: Sight = UNAIDED) -> dict[str, Any]:
        models: Any = self
        asked: Any = customer
        return await explanations(models, asked, sight)


async def test_a_churn_score_is_explained_by_the_row_and_the_version_that_gave_it() -> None:
    models, row = Published(churn={41: payload("churn", 200), 42: payload("churn", 900)}), [0.1, *ROW[1:]]
    said = models.said("churn", 41, row)
    customer = {
        "scores": {"churn": [said, 41, 200, AT]},
        "waiting": [[AT - 7, [9.0, *ROW[1:]], 0.9, 0.1, 40, 0.0], [AT, row, said, 0.1, 41, 0.0]],
    }
    found = await models.explain(customer, Sight({"churn": load("churn", 42, models.models["churn"][42])}, None))
    assert found["churn"]["model"] == "churn/41"
    assert found["churn"]["lower"][0]["features"] == ("rec",)
    assert found["churn"]["text"].startswith("lower because: ordered within the last day (-")
    assert found["churn"]["higher"] == []


async def test_a_version_of_a_challenger_is_not_mistaken_for_the_champions() -> None:
    models = Published(churn={7: payload("churn", 200)}, churn_blend={7: payload("churn", 900)})
    for name in ("churn", "churn.blend"):
        said = models.said(name, 7, ROW)
        customer = {"scores": {"churn": [said, 7, 200, AT]}, "waiting": [[AT, ROW, said, 0.1, 7, 0.0]]}
        for force in ("churn", "churn.blend"):
            sight = Sight({"churn": load(force, 7, models.models[force][7])}, None)
            is_known = name in (force, "churn")
            assert (await models.explain(customer, sight))["churn"]["model"] == (f"{name}/7" if is_known else None)


async def test_an_intent_score_is_told_with_what_visits_like_it_came_to() -> None:
    models, reasons = Published(intent={3: payload("intent", 300)}), Reasons()
    for number in range(40):
        reasons.learn(ROW, number % 4 == 0)
    said = models.said("intent", 3, ROW)
    customer = {"scores": {"intent": [said, 3, 300, AT]}, "visit": [[AT, AT - 5, ROW, said, 0.2, 3]]}
    counts = load("bayes", 9, {"state": reasons.state(), "trust": "trusted"})
    found = await models.explain(customer, Sight({"bayes": counts}, None))
    assert found["intent"]["model"] == "intent/3"
    assert found["intent"]["alike"].startswith("of 40 visits like this one (")
    assert "alike" not in (await models.explain(customer))["intent"]


@pytest.mark.parametrize(
    ("customer", "told"),
    [
        ({}, {}),
        ({"scores": {"churn": [None, 0, 0, AT]}}, {}),
        ({"scores": {"clv": [5.0, 1, 9, AT]}}, {}),
        ({"scores": {"intent": [0.2, 3, 9, AT]}}, {"intent": "its visit is over"}),
        (
            {"scores": {"intent": [0.2, 3, 9, AT]}, "visit": [[AT - 9, AT, ROW, 0.2, 0.2, 3]]},
            {"intent": "its visit is over"},
        ),
        ({"scores": {"churn": [0.2, 3, 9, AT]}, "waiting": [[AT, ROW, None, None, None, 0.0]]}, {"churn": "not kept"}),
        ({"scores": {"churn": [0.2, 3, 9, AT]}, "waiting": [[AT, ROW, 0.2, 0.1, 3, 0.0]]}, {"churn": "version 3"}),
    ],
)
async def test_where_there_is_nothing_to_explain_with_it_says_why(
    customer: dict[str, Any], told: dict[str, str]
) -> None:
    found = await Published(churn={3: payload("churn", 50) | {"names": []}}).explain(customer)
    assert found.keys() == told.keys()
    assert all(part in found[slot]["text"] for slot, part in told.items())


def test_a_drift_is_one_line() -> None:
    event = {"type": "journey.model_drifted.v1", "time": "2026-11-20T08:14:02.000Z", "subject": "model:churn"}
    line = alarm_line(event | {"data": ALARM})
    assert "\n" not in line
    assert line.startswith("2026-11-20T08:14:02 churn ")
    assert "log-loss 0.310 -> 0.420, worse since 2026-11-20" in line
    assert "of 1,234 labels, a second test agrees" in line
    better = alarm_line(event | {"data": ALARM | {"after": 0.2, "seconded": None}})
    assert "better since" in better
    assert "agrees" not in better


def test_an_alarm_that_this_version_does_not_know_is_shown_as_it_is() -> None:
    event = {"type": "journey.new.v1", "time": "2026-11-20T08:14:02.000Z", "subject": "shop", "data": {"n": 1}}
    assert "journey.new.v1" in alarm_line(event)
    assert '{"n":1}' in alarm_line(event)

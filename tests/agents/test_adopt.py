"""The adopt agent on fakes: what it puts in force, what it passes over, and what it refuses."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from faust.types import TP

from journey.adoptions import Standing, in_force
from journey.models.rate import Rate
from journey.samples import SCHEMAS
from streams import faust_fixes
from streams.agents import adopt
from streams.agents.adopt import Adopt
from streams.errors import LogTruncatedError
from streams.faust_fixes import LightRecord
from streams.settings import Settings
from streams.snapshots import Keys, record_key, sign
from tests.agents.test_inbox import FakeApp

KEYS = Keys(b"a key of the tests")
PROMOTES = {"promote": True, "text": "better in two windows"}


def scores(slot: str) -> dict[str, Any]:
    """Return what a snapshot needs for the engine to score with it."""
    schema = f"{slot}/1"
    state = Rate(100, 10).state()
    told = {"schema": schema, "names": list(SCHEMAS.get(schema, ())), "state": state, "fallback": state}
    return told | {"labels": 100, "trust": "trusted"}


class FakeLog:
    def __init__(self) -> None:
        self.control: list[dict[str, Any]] = []
        self.letters: list[dict[str, Any]] = []

    async def append(self, topic: str, partition: int, records: Any, headers: Any = ()) -> None:
        mine = {"journey.control": self.control, "journey.dead_letters": self.letters}[topic]
        mine += [orjson.loads(value) for _, value in records]


class FakeControl:
    def __init__(self, log: FakeLog) -> None:
        self.log = log

    async def read(self) -> Standing:
        standing = Standing()
        for message in self.log.control:
            standing.take(message)
        return standing


class Desk:
    def __init__(self, **told: Any) -> None:
        self.log = FakeLog()
        log: Any = self.log
        control: Any = FakeControl(self.log)
        self.app = FakeApp()
        self.counts = dict.fromkeys(("adopted", "refused", "passed_over"), 0)
        self.agent = Adopt(self.app, Settings(**told), log, control, KEYS, self.counts)
        self.agent._letters = 1

    async def sees(self, name: str, role: str | None = "champion", *, keys: Keys = KEYS, **fields: Any) -> None:
        """A snapshot comes, such as ``churn/42``; ``fields`` are of the payload, ``trained`` of the envelope."""
        model, _, number = name.partition("/")
        trained = fields.pop("trained", {}) | {"at": 1000 + int(number)}
        value = sign(
            keys, model=model, number=int(number), parent=None, schema="churn/1", trained_through={}, trained=trained,
            payload=scores(model.partition(".")[0]) | {"role": role, "n": int(number)} | fields,
        )  # fmt: skip
        await self.brings(record_key(model, int(number)), value)

    async def brings(self, key: bytes, value: bytes | None) -> None:
        record: Any = LightRecord("journey.models", 0, 7, 1_795_162_442_000, key, value, [])
        await self.agent.take(record)

    def says(self, **message: Any) -> None:
        """An operator says something."""
        self.log.control.append({"v": 1, **message})

    @property
    def force(self) -> dict[str, tuple[str, int]]:
        return in_force(self.log.control)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_champions_are_adopted_as_they_appear(desk: Desk) -> None:
    for name in ("churn/1", "intent/1", "churn/2", "churn/4"):
        await desk.sees(name)
    assert desk.force == {"churn": ("churn", 4), "intent": ("intent", 1)}
    assert [one["replaces"] for one in desk.log.control] == [None, None, 1, 2]
    assert [one["at"] for one in desk.log.control] == [1001, 1001, 1002, 1004]


async def test_what_comes_again_after_a_crash_is_not_adopted_again(desk: Desk) -> None:
    for name in ("churn/1", "churn/2", "churn/1", "churn/2"):
        await desk.sees(name)
    assert len(desk.log.control) == 2
    assert desk.counts == {"adopted": 2, "refused": 0, "passed_over": 2}


async def test_a_slot_that_an_operator_has_frozen_stays_as_it_is(desk: Desk) -> None:
    await desk.sees("churn/1")
    desk.says(k="freeze", slot="churn")
    await desk.sees("churn/2")
    assert desk.force == {"churn": ("churn", 1)}
    desk.says(k="unfreeze", slot="churn")
    await desk.sees("churn/3")
    assert desk.force == {"churn": ("churn", 3)}


async def test_what_was_rolled_back_does_not_come_back(desk: Desk) -> None:
    await desk.sees("churn/1")
    await desk.sees("churn/2")
    desk.says(k="adopt", model="churn", version=1, replaces=2, sha256="00")
    await desk.sees("churn/2")
    assert desk.force == {"churn": ("churn", 1)}
    await desk.sees("churn/3")
    assert desk.force == {"churn": ("churn", 3)}


async def test_a_challenger_is_only_measured(desk: Desk) -> None:
    await desk.sees("churn/1")
    await desk.sees("churn.boosted/1", "challenger", verdict=PROMOTES)
    assert desk.force == {"churn": ("churn", 1)}


async def test_a_challenger_that_is_better_is_promoted_where_the_operator_lets_it() -> None:
    desk = Desk(promote="auto")
    await desk.sees("churn.boosted/1", "challenger", verdict=PROMOTES)
    assert desk.force == {}, "there is nothing that it could be better than"
    await desk.sees("churn/1")
    await desk.sees("churn.boosted/2", "challenger", verdict={"promote": False, "text": "no"})
    await desk.sees("churn.boosted/3", "challenger")
    assert desk.force == {"churn": ("churn", 1)}
    await desk.sees("churn.boosted/4", "challenger", verdict=PROMOTES)
    assert desk.force == {"churn": ("churn.boosted", 4)}


async def test_two_challengers_that_are_better_than_the_champion_do_not_take_turns() -> None:
    desk = Desk(promote="auto")
    await desk.sees("churn/1")
    for version in (1, 2, 3):
        await desk.sees(f"churn.blend/{version}", "challenger", verdict=PROMOTES)
        await desk.sees(f"churn.boosted/{version}", "challenger", verdict=PROMOTES)
    assert desk.force == {"churn": ("churn.blend", 3)}
    assert [one["model"] for one in desk.log.control] == ["churn", *["churn.blend"] * 3]


async def test_after_a_promotion_the_promoted_models_versions_follow_and_not_the_former_champions(desk: Desk) -> None:
    await desk.sees("churn/1")
    desk.says(k="adopt", slot="churn", model="churn.boosted", version=3, replaces=1, sha256="00")
    await desk.sees("churn/2")
    await desk.sees("churn.boosted/4", "challenger")
    assert desk.force == {"churn": ("churn.boosted", 4)}


async def test_a_part_of_other_models_is_for_no_slot(desk: Desk) -> None:
    await desk.sees("value.fit/1", None)
    assert desk.force == {}


async def test_a_model_may_say_which_slot_it_is_for(desk: Desk) -> None:
    await desk.sees("pairs/1", slot="rules")
    assert desk.force == {"rules": ("pairs", 1)}


@pytest.mark.parametrize("role", ["champion", "challenger", None])
async def test_where_there_is_no_model_in_it_nothing_is_adopted_and_nothing_is_wrong(desk: Desk, role: str) -> None:
    await desk.sees("churn/1")
    desk.says(k="adopt", slot="intent", model="intent.boosted", version=3, sha256="00")
    await desk.sees("churn/2", role, state=None, trust="cold", fault="a fit that failed")
    await desk.sees("intent.boosted/4", role, state=None, size=300_000, verdict=PROMOTES)
    assert desk.force == {"churn": ("churn", 1), "intent": ("intent.boosted", 3)}
    assert (desk.counts["passed_over"], desk.counts["refused"], desk.log.letters) == (2, 0, [])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"state": {"class": "rate/9"}}, "no model of class 'rate/9' is known"),
        ({"state": {"class": "rate/1", "n": 1, "happened": 2}}, "is no rate/1"),
        ({"names": ["rec"]}, "has other features"),
        ({"labels": None, "fallback": None}, "TypeError"),
        ({"slot": "recs"}, "cannot do what the slot recs does"),
    ],
)
async def test_what_the_engine_could_not_load_is_refused_and_the_last_good_one_stays(
    desk: Desk, fields: dict[str, Any], says: str
) -> None:
    await desk.sees("churn/1")
    await desk.sees("churn/2", **fields)
    assert desk.force == {"churn": ("churn", 1)}
    assert (desk.counts["refused"], desk.agent.reasons) == (1, {"SnapshotError": 1})
    assert says in desk.log.letters[0]["detail"]
    await desk.sees("churn/3")
    assert desk.force == {"churn": ("churn", 3)}


async def test_a_challenger_that_is_not_to_be_adopted_need_not_fit_the_slot(desk: Desk) -> None:
    await desk.sees("churn.odd/1", "challenger", state={"class": "of another program"})
    assert (desk.counts["passed_over"], desk.counts["refused"]) == (1, 0)


async def test_a_challenger_that_is_worse_than_the_trivial_answer_is_nothing_to_complain_of_until_it_is_wanted() -> (
    None
):
    worse = {"metrics": {"log_loss": 0.4, "baseline_log_loss": 0.3}}
    desk = Desk(promote="auto")
    await desk.sees("churn/1")
    await desk.sees("churn.svm/1", "challenger", trained=worse)
    assert (desk.counts["passed_over"], desk.counts["refused"], desk.log.letters) == (1, 0, [])
    await desk.sees("churn.svm/2", "challenger", trained=worse, verdict=PROMOTES)
    assert desk.counts["refused"] == 1
    assert desk.force == {"churn": ("churn", 1)}


async def test_a_challenger_that_takes_too_long_for_a_score_is_not_promoted_by_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(promote="auto")
    await desk.sees("churn/1")
    monkeypatch.setattr(adopt, "MOST_MICROSECONDS", 0.0)
    await desk.sees("churn.boosted/1", "challenger", verdict=PROMOTES)
    assert desk.force == {"churn": ("churn", 1)}
    assert (desk.counts["passed_over"], desk.counts["refused"], desk.log.letters) == (1, 0, [])
    assert "not promoted: a score of churn.boosted/1 takes" in caplog.text
    await desk.sees("churn/2")
    assert desk.force == {"churn": ("churn", 2)}, "what follows its own former version is not asked how fast it is"
    monkeypatch.undo()
    await desk.sees("churn.boosted/2", "challenger", verdict=PROMOTES)
    assert desk.force == {"churn": ("churn.boosted", 2)}


async def test_a_learner_that_begins_anew_does_not_replace_what_was_trusted(desk: Desk) -> None:
    await desk.sees("churn/1", trust="cold")
    await desk.sees("churn/2", trust="cold")
    assert desk.force == {"churn": ("churn", 2)}, "nothing is lost by a newer one that nobody believes either"
    await desk.sees("churn/3")
    await desk.sees("churn/1000001", trust="cold")
    assert desk.force == {"churn": ("churn", 3)}
    await desk.sees("churn/1000002", trust="shadow")
    await desk.sees("churn/1000003", trust="cold")
    assert desk.force == {"churn": ("churn", 1_000_003)}
    assert [one["trust"] for one in desk.log.control] == ["cold", "cold", "trusted", "shadow", "cold"]


async def test_what_is_refused_changes_nothing_and_is_told(desk: Desk) -> None:
    await desk.sees("churn/1")
    worse = {"metrics": {"log_loss": 0.4, "baseline_log_loss": 0.3}}
    await desk.sees("churn/2", trained=worse)
    await desk.sees("churn/3", keys=Keys(b"another key"))
    await desk.brings(b"churn/4", b"no json")
    assert desk.force == {"churn": ("churn", 1)}
    assert desk.counts["refused"] == 3
    assert desk.agent.reasons == {"SnapshotError": 2, "SignatureError": 1}
    assert {(one["stage"], one["reason"]) for one in desk.log.letters} == {("adopt", "bad_snapshot")}
    assert "log-loss 0.4000 is above the baseline's 0.3000" in desk.log.letters[0]["detail"]


async def test_a_version_that_was_deleted_is_no_snapshot_to_refuse(desk: Desk) -> None:
    await desk.brings(b"churn/1", None)
    assert desk.counts["refused"] == 0


def test_a_log_of_models_that_was_cut_stops_the_worker(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    models, samples = TP("journey.models", 0), TP("journey.samples", 0)
    monkeypatch.setitem(faust_fixes._begins, desk.app.conf.id, {models: 10, samples: 10})
    desk.agent.begin(desk.app, {models: 10, samples: 3})
    desk.agent.begin(FakeApp(), {models: 9})
    with pytest.raises(LogTruncatedError, match=r"journey.models/0 ends at 9, 10 records of it were taken"):
        desk.agent.begin(desk.app, {models: 9})

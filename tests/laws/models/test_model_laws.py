"""What every model promises, whatever it learns: replay, keeping, scoring, refusing, bounds, order, abstaining."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from journey.entries import encode
from journey.errors import BadRowError, BadSnapshotError
from journey.models.base import State, chance, vector
from tests.laws.models.members import Member, Sample, digests, members

ALL = members()
ROWS = [member for member in ALL if member.kind == "rows"]
HUGE = 1e308
MOST_CHANGED = 40  # places of a state that are spoilt one after the other


def of(them: list[Member] | tuple[Member, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("member", them, ids=[member.name for member in them])


def decoded(state: bytes) -> State:
    body: State = json.loads(state)
    return body


def floats(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where the numbers with a fraction are: ids and counts are integers."""
    if isinstance(value, float):
        yield path
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from floats(value[key], (*path, key))
    elif isinstance(value, list):
        for at, one in enumerate(value):
            yield from floats(one, (*path, at))


def number_at(value: Any, path: tuple[Any, ...]) -> float:
    for step in path:
        value = value[step]
    assert isinstance(value, float)
    return value


def with_number(state: bytes, path: tuple[Any, ...], number: float) -> State:
    body = decoded(state)
    inner: Any = body
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = number
    return body


def asked(member: Member, model: Any, samples: list[Sample]) -> bytes:
    """Return the answers of a model, each asked for alone, as bytes."""
    assert member.score is not None
    return encode([member.score(model, sample) for sample in samples])


def test_there_are_members_and_no_two_have_the_same_name() -> None:
    assert len({member.name for member in ALL}) == len(ALL) > 0


def test_three_processes_with_other_hash_seeds_come_to_the_same_bytes() -> None:
    root = Path(__file__).resolve().parents[3]
    program = "import json; from tests.laws.models.members import digests; print(json.dumps(digests()))"
    told = []
    for seed in "012":
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
        ran = subprocess.run([sys.executable, "-c", program], cwd=root, env=env, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr.decode()
        told.append(json.loads(ran.stdout))
    assert set(told[0]) == {member.name for member in ALL}
    assert told[0] == told[1] == told[2] == digests()


@of(ALL)
def test_a_model_that_was_kept_and_taken_back_goes_on_as_if_it_had_never_stopped(member: Member) -> None:
    stopped, went_on = member.taught(member.learned), member.taught(member.learned)
    kept = member.bytes_of(stopped)
    taken_back = member.restore(decoded(kept))
    assert member.bytes_of(taken_back) == kept
    for number in range(member.learned, member.learned + member.more):
        member.learn(taken_back, member.sample(number))
        member.learn(went_on, member.sample(number))
    assert member.bytes_of(taken_back) == member.bytes_of(went_on) != kept


@of(ALL)
def test_what_was_kept_is_not_changed_by_what_is_learned_after(member: Member) -> None:
    model = member.taught(300)
    state = model.state()
    kept = encode(state)
    restored = member.restore(state)
    for number in range(300, 400):
        member.learn(model, member.sample(number))
        member.learn(restored, member.sample(number))
    assert encode(state) == kept


@of([member for member in ALL if member.score is not None])
def test_asking_changes_nothing(member: Member) -> None:
    model = member.taught(member.learned)
    before = member.bytes_of(model)
    samples = [*(member.sample(number) for number in range(member.asked)), *member.strangers()]
    first = asked(member, model, samples)
    assert asked(member, model, samples) == first
    if member.score_many is not None:
        member.score_many(model, samples)
    assert member.bytes_of(model) == before


@of([member for member in ALL if member.score_many is not None])
def test_a_row_scores_the_same_bits_alone_in_a_page_of_7_and_of_1024(member: Member) -> None:
    assert member.score_many is not None
    model = member.taught(member.learned)
    samples = [member.sample(number) for number in range(1_024)]
    if member.kind == "rows":
        samples[3] = with_value(samples[3], 0, math.nan)
    alone = asked(member, model, samples)
    sevens = [one for at in range(0, 1_024, 7) for one in member.score_many(model, samples[at : at + 7])]
    assert encode(sevens) == alone
    assert encode(list(member.score_many(model, samples))) == alone


def with_value(sample: Sample, at: int, value: Any) -> Sample:
    return {**sample, "x": [*sample["x"][:at], value, *sample["x"][at + 1 :]]}


@of(ROWS)
@pytest.mark.parametrize("value", [math.inf, -math.inf, None, "1"], ids=str)
def test_what_is_no_number_is_neither_learned_nor_scored(member: Member, value: object) -> None:
    model = member.taught(300)
    before = member.bytes_of(model)
    for at in range(len(member.names)):
        spoilt = with_value(member.sample(300), at, value)
        with pytest.raises(BadRowError):
            member.learn(model, spoilt)
        if member.score is not None:
            with pytest.raises(BadRowError):
                member.score(model, spoilt)
    assert member.bytes_of(model) == before


@of(ROWS)
def test_no_data_is_never_learned_and_is_scored_as_what_is_usual(member: Member) -> None:
    model = member.taught(member.learned)
    before = member.bytes_of(model)
    for at in range(len(member.names)):
        unknown = with_value(member.sample(300), at, math.nan)
        with pytest.raises(BadRowError):
            member.learn(model, unknown)
        if member.score is not None:
            assert all_finite(member.score(model, unknown))
    assert member.bytes_of(model) == before


@of(ROWS)
def test_a_row_of_another_length_is_refused(member: Member) -> None:
    model = member.taught(300)
    before = member.bytes_of(model)
    row = member.sample(300)["x"]
    for other in ([], row[:-1], [*row, 0.0]):
        with pytest.raises(BadRowError):
            member.learn(model, {**member.sample(300), "x": other})
        if member.score is not None:
            with pytest.raises(BadRowError):
                member.score(model, {**member.sample(300), "x": other})
    assert member.bytes_of(model) == before


@of(ROWS)
def test_unknown_names_are_ignored_and_absent_ones_refused(member: Member) -> None:
    row = member.sample(7)["x"]
    named = dict(zip(member.names, row, strict=True))
    assert vector({"nobody asked": 1.0, **named}, member.names) == row
    for name in member.names:
        with pytest.raises(BadRowError):
            vector({other: value for other, value in named.items() if other != name}, member.names)


@of(ROWS)
@pytest.mark.parametrize("huge", [HUGE, -HUGE], ids=["huge", "minus huge"])
def test_a_huge_number_is_refused_or_leaves_every_number_finite(member: Member, huge: float) -> None:
    model = member.taught(300)
    for at in range(len(member.names)):
        spoilt = with_value(member.sample(300), at, huge)
        if member.score is not None:
            with contextlib.suppress(BadRowError):
                assert all_finite(member.score(model, spoilt))
        with contextlib.suppress(BadRowError):
            member.learn(model, spoilt)
        assert all_finite(model.state())
    member.learn(model, member.sample(301))
    assert all_finite(model.state())
    assert all_finite(member.restore(decoded(member.bytes_of(model))).state())


def all_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and all_finite(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(all_finite, value))
    return value is None or isinstance(value, str | int)


@of(ROWS)
def test_a_feature_that_never_changes_does_no_harm(member: Member) -> None:
    model = member.make()
    for number in range(1_000):
        member.learn(model, with_value(member.sample(number), 0, 0.1))
    assert all_finite(model.state())
    if member.score is not None:
        assert all_finite(member.score(model, with_value(member.sample(5), 0, 0.1)))
        assert all_finite(member.score(model, member.sample(5)))


@of(ALL)
def test_a_state_is_plain_json_and_comes_back_as_it_was(member: Member) -> None:
    for samples in (0, 1, 300):
        state = member.taught(samples).state()
        assert all_finite(state)
        assert encode(json.loads(encode(state))) == encode(state)
        assert encode(member.restore(json.loads(encode(state))).state()) == encode(state)


@of(ALL)
@pytest.mark.parametrize("told", ["something/1", None], ids=str)
def test_the_state_of_another_class_is_refused(member: Member, told: str | None) -> None:
    state = member.taught(300).state()
    assert isinstance(state["class"], str)
    with pytest.raises(BadSnapshotError):
        member.restore({**state, "class": told})


@of(ALL)
@pytest.mark.parametrize("number", [math.nan, math.inf], ids=["nan", "inf"])
def test_a_state_with_a_number_that_is_none_is_refused(member: Member, number: float) -> None:
    kept = member.bytes_of(member.taught(1_000))
    places = list(floats(decoded(kept)))
    step = max(1, len(places) // MOST_CHANGED)
    for place in places[::step]:
        with pytest.raises(BadSnapshotError):
            member.restore(with_number(kept, place, number))


@of(ALL)
def test_memory_is_bounded_however_many_samples_there_were(member: Member) -> None:
    model = member.make()
    for number in range(member.many):
        member.learn(model, member.sample(number))
        if number % 20_000 == 19_999:
            assert len(member.bytes_of(model)) <= member.most_bytes
    assert 0 < len(member.bytes_of(model)) <= member.most_bytes


@of([member for member in ALL if member.order != "matters"])
def test_the_order_of_samples_changes_no_more_than_the_model_says(member: Member) -> None:
    as_they_came, turned = member.make(), member.make()
    numbers = list(range(1_000))
    for number in numbers:
        member.learn(as_they_came, member.sample(number))
    for number in sorted(numbers, key=lambda one: (chance("order", str(one)), one)):
        member.learn(turned, member.sample(number))
    one, other = member.bytes_of(as_they_came), member.bytes_of(turned)
    if member.order == "any":
        assert one == other
        return
    these, those = decoded(one), decoded(other)
    places = list(floats(these))
    assert places
    assert places == list(floats(those))
    for place in places:
        assert number_at(these, place) == pytest.approx(number_at(those, place), rel=1e-12, abs=1e-300)


@of([member for member in ALL if member.abstains is not None])
def test_a_model_that_has_seen_too_little_abstains(member: Member) -> None:
    assert member.abstains is not None
    for samples in (0, member.few):
        model = member.taught(samples)
        assert member.abstains(model)
        answers_or_refuses(member, model, member.sample(samples))
    assert not member.abstains(member.taught(member.learned))


@of([member for member in ALL if member.one_class is not None])
def test_a_model_that_has_seen_one_answer_only_abstains(member: Member) -> None:
    assert member.one_class is not None
    assert member.abstains is not None
    model = member.make()
    for number in range(1_000):
        member.learn(model, member.one_class(number))
    assert member.abstains(model)
    answers_or_refuses(member, model, member.sample(0))


def answers_or_refuses(member: Member, model: Any, sample: Sample) -> None:
    """A model that abstains answers None, or a number that nobody uses: it raises nothing."""
    assert all_finite(model.state())
    if member.score is not None:
        assert all_finite(member.score(model, sample))
    if member.score_many is not None:
        assert all_finite(list(member.score_many(model, [sample])))

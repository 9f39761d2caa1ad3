"""What learning again can be held against, and what was made by learners of another version."""

from __future__ import annotations

import orjson
import pytest

from journey.samples import LEARN_VERSION
from streams.relearn import Version, comparable
from streams.settings import Epoch, Settings
from streams.snapshots import Keys, is_of_epoch, learned_by, sign, version_of


def version(family: str, learners: int = LEARN_VERSION) -> Version:
    return Version(family, learners, set(), {})


def test_families_that_other_learners_began_are_left_out_and_counted() -> None:
    published = {
        ("churn", 1): version("churn", LEARN_VERSION - 1), ("churn", 2): version("churn"),
        ("spend", 1): version("churn"), ("recs", 1): version("recs"), ("rules", 1): version("recs"),
    }  # fmt: skip
    assert comparable(published) == ({"recs"}, 3)
    del published["churn", 1]
    assert comparable(published) == ({"churn", "recs"}, 0)
    assert comparable({}) == (set(), 0)


def test_a_snapshot_says_which_learners_made_it() -> None:
    value = sign(
        Keys(b"a key of the tests"), model="churn", number=1, parent=None, schema="churn/1", trained_through={},
        trained={"at": 1}, payload={"role": "champion"},
    )  # fmt: skip
    assert learned_by(orjson.loads(value)) == LEARN_VERSION


@pytest.mark.parametrize("journal", [1, 2, 7])
def test_versions_of_another_journal_are_told_apart(journal: int) -> None:
    settings = Settings().at(Epoch(journal=journal))
    for version in (1, 999_999):
        assert is_of_epoch(settings, version_of(settings, version))
        assert not is_of_epoch(Settings().at(Epoch(journal=journal + 1)), version_of(settings, version))


@pytest.mark.parametrize(("library", "learners"), [({}, 1), ({"learners": "7"}, 7), ({"learners": "x"}, 0)])
def test_what_says_nothing_is_of_the_first_learners(library: dict[str, str], learners: int) -> None:
    assert learned_by({"library": library}) == learners

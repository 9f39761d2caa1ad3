from __future__ import annotations

from tests.golden import learners

CHANGED = (
    "the learners make something else of the same samples than they did. If that is meant, raise LEARN_VERSION in "
    "journey/samples.py: verify must not hold what the version before published against this one. Then run "
    "`python -m tests.golden.learners`."
)


def test_the_same_samples_give_what_is_recorded() -> None:
    assert learners.outcome() == learners.recorded(), CHANGED


def test_another_outcome_is_never_recorded_under_the_same_version() -> None:
    before = learners.recorded()
    assert "raise it" in (learners.write(before | {"families": {}}, is_released=True) or "")
    assert learners.recorded() == before


def test_what_is_recorded_has_something_of_every_family() -> None:
    for family, told in learners.recorded()["families"].items():
        assert sum(told["published"].values()) > 0, family

"""Topics that were just created: not every broker knows them at once."""

from __future__ import annotations

import pytest

from streams import topics
from streams.errors import TopicConflictError
from streams.settings import Settings
from streams.topics import Admin, Finding, catalogue


class Cluster(Admin):
    """Brokers of which some do not know yet what was created; the first looks are theirs."""

    def __init__(self, created: list[str], late: int) -> None:
        self.settings = Settings()
        self.created, self.late, self.looks = created, late, 0

    async def create(self) -> list[str]:
        return self.created

    async def check(self) -> list[Finding]:
        self.looks += 1
        names = [topic.name for topic in catalogue(self.settings)] if self.looks <= self.late else []
        return [Finding(name, "does not exist", refuses=True, is_missing=True) for name in names]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "SETTLE_SECONDS", 0.0)


async def test_a_broker_that_does_not_know_a_new_topic_yet_is_asked_again() -> None:
    cluster = Cluster([topic.name for topic in catalogue(Settings())], late=3)
    assert await cluster.ensure() == []
    assert cluster.looks == 4


async def test_what_stays_away_is_refused_in_the_end() -> None:
    cluster = Cluster([topic.name for topic in catalogue(Settings())], late=1000)
    with pytest.raises(TopicConflictError, match="does not exist"):
        await cluster.ensure()


async def test_what_was_there_before_and_is_gone_is_refused_at_once() -> None:
    cluster = Cluster([], late=1)
    with pytest.raises(TopicConflictError, match=r"journey\.journal: does not exist"):
        await cluster.ensure()
    assert cluster.looks == 1

"""What recommends: counts of baskets, content, neighbours, factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from journey.models.base import chance
from journey.models.baskets import Baskets, Recommender
from journey.models.content import Content, ContentRanking
from journey.models.factors import FactorRanking, Factors
from journey.models.neighbours import Neighbourhood, Neighbours
from tests.laws.models.members import Member, Sample

NOON = 1_788_264_000_000
HOUR = 3_600_000
USUAL = 200  # items that are bought again and again, a few of them much more often
LATER = NOON + 5_000 * HOUR // 7
BRANDS = ("Leaf", "Iron", None)


def item(name: str) -> list[Any]:
    """Return an item as samples tell it: what it is follows from its id."""
    place = int(100 * chance("place", name))
    return [name, f"category {place % 12}", BRANDS[place % 3], 100 + 10 * place if place % 5 else None]


def sample(number: int) -> Sample:
    """A basket of four usual items and one that nobody has seen, by somebody who had bought some of the usual ones."""

    def drawn(what: str, many: int) -> list[str]:
        places = (int(USUAL * chance(what, str(number), str(line)) ** 2) for line in range(many))
        return sorted({f"p-{place:03d}": None for place in places})

    bought = [*drawn("bought", 4), f"new-{number:06d}"]
    profile = [[name, 1.0 + chance("weight", str(number), name)] for name in drawn("profile", 8)]
    items = sorted((item(name) for name in bought), key=lambda row: str(row[0]))
    return {"items": items, "profile": profile, "at": NOON + number * HOUR // 7}


def strangers() -> list[Sample]:
    return [
        {"items": [], "profile": [[f"stranger {number}", 1.0], ["p-001", 2.0]], "at": LATER} for number in range(20)
    ]


def learn(model: Any, told: Sample) -> None:
    model.learn(told["items"], told["at"], dict(told["profile"]))


def ask(reader: Any) -> Callable[[Any, Sample], list[list[Any]]]:
    """Return what asks the model as it is published when all is learned."""

    def asked(model: Any, told: Sample) -> list[list[Any]]:
        return [list(found) for found in reader.restore(model.published(LATER)).recommend(dict(told["profile"]))]

    return asked


MEMBERS = (
    Member(
        name="baskets", make=Baskets, restore=Baskets.restore, sample=sample, learn=learn, score=ask(Recommender),
        order="last bits", strangers=strangers, asked=5, many=60_000, most_bytes=8_000_000,
    ),
    Member(
        name="content", make=Content, restore=Content.restore, sample=sample, learn=learn, score=ask(ContentRanking),
        order="any", strangers=strangers, asked=5, many=60_000, most_bytes=4_000_000,
    ),
    Member(
        name="neighbours", make=Neighbours, restore=Neighbours.restore, sample=sample, learn=learn,
        score=ask(Neighbourhood), order="any", strangers=strangers, asked=5, many=40_000, most_bytes=2_000_000,
    ),
    Member(
        name="factors", make=Factors, restore=Factors.restore, sample=sample, learn=learn, score=ask(FactorRanking),
        strangers=strangers, asked=5, learned=2_000, more=500, many=20_000, most_bytes=4_000_000,
    ),
)  # fmt: skip

from __future__ import annotations

from journey.state import Customer, new_customer
from journey.timers import Agenda


def somebody(key: str, **timers: int) -> Customer:
    return {**new_customer(key, 0), "timers": timers}


def all_due(agenda: Agenda, now: int) -> list[str]:
    found = []
    while (key := agenda.pop(now)) is not None:
        found.append(key)
    return found


def test_nothing_is_due_in_an_empty_agenda() -> None:
    agenda = Agenda()
    assert agenda.pop(1 << 50) is None
    assert agenda.next_prompt() is None
    assert agenda.overdue(1 << 50) == 0


def test_customers_come_by_due_time_then_by_key() -> None:
    agenda = Agenda()
    for customer in (somebody("u:3", stage=5), somebody("u:1", stage=7), somebody("u:2", stage=5)):
        agenda.note(customer)
    assert all_due(agenda, 6) == ["u:2", "u:3"]
    assert all_due(agenda, 7) == ["u:1"]


def test_a_timer_is_due_at_its_moment_not_before() -> None:
    agenda = Agenda()
    agenda.note(somebody("u:1", stage=5))
    assert agenda.pop(4) is None
    assert agenda.first() == 5
    assert agenda.pop(5) == "u:1"


def test_the_earliest_of_a_customers_timers_counts() -> None:
    agenda = Agenda()
    agenda.note(somebody("u:1", stage=9, abandoned_cart=5))
    assert all_due(agenda, 5) == ["u:1"]


def test_what_is_noted_later_counts() -> None:
    agenda = Agenda()
    agenda.note(somebody("u:1", stage=5))
    agenda.note(somebody("u:1", stage=9))
    assert all_due(agenda, 8) == []
    agenda.note(somebody("u:1", stage=6))
    assert all_due(agenda, 8) == ["u:1"]
    agenda.note(somebody("u:2", stage=5))
    agenda.note(somebody("u:2"))
    assert all_due(agenda, 9) == []


def test_whoever_came_up_has_to_be_noted_again() -> None:
    agenda = Agenda()
    agenda.note(somebody("u:1", stage=5))
    assert agenda.pop(5) == "u:1"
    assert agenda.pop(5) is None
    agenda.note(somebody("u:1", stage=5))
    assert agenda.pop(5) == "u:1"


def test_only_prompt_timers_want_a_tick() -> None:
    agenda = Agenda()
    agenda.note(somebody("u:1", stage=1))
    assert agenda.next_prompt() is None
    agenda.note(somebody("u:2", stage=1, abandoned_cart=8))
    agenda.note(somebody("u:3", abandoned_cart=7))
    assert agenda.next_prompt() == 7
    agenda.note(somebody("u:3", stage=2))
    assert agenda.next_prompt() == 8
    agenda.note(somebody("u:2", abandoned_cart=9))
    assert agenda.next_prompt() == 9


def test_how_many_are_overdue_is_told() -> None:
    agenda = Agenda()
    for number in range(5):
        agenda.note(somebody(f"u:{number}", stage=number))
    assert agenda.overdue(2) == 3


def test_changing_a_timer_often_costs_no_memory() -> None:
    agenda = Agenda()
    for moment in range(50_000, 0, -1):
        agenda.note(somebody("u:1", stage=moment, abandoned_cart=moment))
    assert len(agenda._heap) < 2_000
    assert len(agenda._prompts) < 2_000
    assert agenda.next_prompt() == agenda.first() == 1
    assert all_due(agenda, 50_000) == ["u:1"]

"""Commands for whoever runs it: status, doctor."""

from __future__ import annotations

import asyncio
import logging
import textwrap
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from journey.samples import FAMILIES
from streams import topics
from streams.doctor import Finding, examine
from streams.settings import load
from streams.status import status as gather

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]

WIDTH: Final = 80
UNITS: Final = {"ingest": "raw records", "engine": "pages", "learn": "samples"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(status)
    app.command()(doctor)


def status(as_json: Json = False) -> None:
    """Show the workers, what each does, and how far they are behind; exit status 1 when none works.

    Example: journey status --json
    """
    now = time.time_ns() // 1_000_000  # noqa: TID251  # only the age of a record is told by it
    told = asyncio.run(gather(load(), now))
    console = Console(highlight=False)
    if as_json:
        console.file.write(orjson.dumps(told).decode() + "\n")
    else:
        show(console, told)
    if not any(role["members"] for role in told["roles"].values()):
        raise typer.Exit(1)


def doctor(as_json: Json = False) -> None:
    """Look at the broker, the topics, the settings and the workers; say what is wrong and what to do.

    Changes nothing. Exit status 1 when there is a fault.

    Example: journey doctor
    """
    now = time.time_ns() // 1_000_000  # noqa: TID251  # only the age of a record is told by it
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say is a finding
    found = asyncio.run(examine(load(), now))
    console = Console(highlight=False)
    if as_json:
        console.file.write(orjson.dumps([one._asdict() for one in found]).decode() + "\n")
    else:
        for line in told_by_doctor(found):
            console.print(line, soft_wrap=True, markup=False)
    if any(one.level == "fault" for one in found):
        raise typer.Exit(1)


def told_by_doctor(found: Sequence[Finding]) -> list[str]:
    """Return findings as lines of at most 80 characters: what was found, and below it what to do."""
    lines = []
    for one in found:
        lines += textwrap.wrap(
            one.what, WIDTH, initial_indent=f"{one.level:8} ", subsequent_indent=" " * 9, break_on_hyphens=False
        )
        if one.todo:
            lines += textwrap.wrap(
                one.todo, WIDTH, initial_indent=" " * 9 + "-> ", subsequent_indent=" " * 12, break_on_hyphens=False
            )
    count = {level: sum(one.level == level for one in found) for level in ("fault", "warning")}
    lines.append("")
    told = [f"{number} {level}{'' if number == 1 else 's'}" for level, number in count.items() if number]
    lines.append(", ".join(told) if told else "all is well")
    return lines


def show(console: Console, told: dict[str, Any]) -> None:
    """Print a status for a person, in 80 columns."""
    epoch, oldest = told["epoch"], told["oldest_unread_seconds"]
    waits = "nothing is unread" if oldest is None else f"the oldest unread record has waited {oldest:,.1f} s"
    if told["roles"]["ingest"]["lag"] is None:
        waits = "raw topics are missing: [bold]journey topics create[/]"
    console.print(f"epoch: journal {epoch['journal']}, state {epoch['state']}; {waits}")
    for name, role in told["roles"].items():
        members = len(role["members"])
        workers = f"{members} worker{'' if members == 1 else 's'}" if members else "[red]no worker[/]"
        lag = "unknown" if role["lag"] is None else f"{role['lag']:,}"
        console.print(f"{name}: {workers}, {lag} {UNITS[name]} behind ({escape(role['state'])})")
    for address in sorted({member["address"] or "" for role in told["roles"].values() for member in role["members"]}):
        console.print()
        _show_worker(console, address, told)


def _show_worker(console: Console, address: str, told: dict[str, Any]) -> None:
    answer = told["workers"].get(address)
    named = escape(address or "a worker with JOURNEY_HTTP empty")
    if answer is None:
        console.print(f"{named} [red]does not answer[/]" if address else named)
    else:
        process, slot = answer["process"], answer["instance_id"]
        state = "ready" if answer["ready"] else "[red]not ready[/]"
        console.print(
            f"{named}{f', slot {escape(slot)}' if slot else ''}: {state}, "
            f"{process['rss_bytes'] / 2**20:,.0f} MB, {process['cpu_seconds']:,.0f} s CPU"
            f"{'' if answer['compiled'] else ', not compiled'}"
        )
    table = Table("role", "partitions", "a second", "behind", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name, role in told["roles"].items():
        for member in role["members"]:
            if (member["address"] or "") == address:
                mine = (answer or {}).get("roles", {}).get(name)
                table.add_row(name, _partitions(name, member), *_figures(name, mine))
    console.print(table)
    if answer is not None:
        _show_engine(console, answer["roles"].get("engine"))
        if answer["last_error"]:
            console.print(f"[red]last error[/]: {escape(answer['last_error']['text'])}", soft_wrap=True)


def _partitions(role: str, member: dict[str, Any]) -> str:
    mine = member["partitions"]
    if role == "ingest":
        return f"{sum(map(len, mine.values()))} of raw topics"
    if role == "learn":
        samples: list[int] = next((numbers for topic, numbers in mine.items() if topics.SAMPLES in topic), [])
        return f"samples of {', '.join(FAMILIES[number] for number in samples if number < len(FAMILIES)) or 'nothing'}"
    numbers = sorted({number for of in mine.values() for number in of})
    told = ",".join(map(str, numbers))
    return "journal " + (told if len(told) <= 28 else f"{told[:24]}... ({len(numbers)})")


def _figures(name: str, role: dict[str, Any] | None) -> tuple[str, str]:
    if role is None:
        return "?", "?"
    lag = sum(count for topic, count in role["lag"].items() if name != "learn" or topics.SAMPLES in topic)
    return f"{role['events_per_second']:,.0f}", f"{lag:,}"


def _show_engine(console: Console, engine: dict[str, Any] | None) -> None:
    if engine is None:
        return
    model = engine["read_model"]
    shown = "no read model" if model is None else f"read model {model['stale_seconds']:,.1f} s old"
    away = " ([red]Redis does not answer[/])" if model and model["away"] else ""
    console.print(f"{engine['table_records']:,} customers, {engine['timers_overdue']:,} timers overdue, {shown}{away}")

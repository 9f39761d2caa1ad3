"""Commands on models: models, models history, models rules, promote, rollback, freeze, unfreeze."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from journey.adoptions import Adopted, Standing
from journey.errors import MissingModelError
from journey.models.rules import Rule, Rules
from journey.triggers import rfc3339
from streams import topics
from streams.appends import Log
from streams.control import ControlLog
from streams.errors import NotFoundError, SettingsError, SlotError, SnapshotError
from streams.logs import consumer, partitions_of
from streams.models_log import ModelsLog
from streams.settings import Settings, load
from streams.snapshots import MOST_MICROSECONDS, adoption_of, check_fit, check_loads, is_empty, microseconds

ATTEMPTS: Final = 5  # to put a version in force while others are being adopted
NONE: Final = "-"
WIDTH: Final = 80

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]
Slot = Annotated[str, typer.Argument(metavar="SLOT", help="Such as churn.")]

models_app = typer.Typer(
    invoke_without_command=True,
    help="Show the models: what is in force in each slot, what else learns, how good each is.\n\n"
    "Example: journey models --json",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(models_app, name="models")
    for command in (promote, rollback, freeze, unfreeze):
        app.command()(command)


# ---- looking ---------------------------------------------------------------------------------------------------------


@models_app.callback()
def models(
    context: typer.Context,
    as_json: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="With the verdict on every challenger.")] = False,
) -> None:
    """Show the models."""
    if context.invoked_subcommand is not None:
        return
    now = time.time_ns() // 1_000_000  # noqa: TID251  # only the age of a model is told by it
    told = asyncio.run(survey(load()))
    console = Console(highlight=False)
    if as_json:
        console.file.write(orjson.dumps(told).decode() + "\n")
        return
    if not told["slots"]:
        console.print("no model was published yet: the role learn publishes some hundred samples after its start")
    for slot, one in told["slots"].items():
        show(console, slot, one, now, verbose=verbose)


@models_app.command()
def history(slot: Slot, as_json: Json = False) -> None:
    """Show which versions were in force in a slot, oldest first.

    Example: journey models history churn
    """
    standing = asyncio.run(_standing(load()))
    past = _history(standing, slot)
    console = Console(highlight=False)
    if as_json:
        told = {"slot": slot, "frozen": slot in standing.frozen, "history": [one._asdict() for one in past]}
        console.file.write(orjson.dumps(told).decode() + "\n")
        return
    table = Table("version", "learned up to", "digest", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for one in past:
        table.add_row(escape(f"{one.model}/{one.version}"), rfc3339(one.at) if one.at else NONE, one.sha256[:12])
    console.print(table)
    console.print(f"the last one is in force{', and the slot is frozen' if slot in standing.frozen else ''}")


@models_app.command()
def rules(
    item: Annotated[str | None, typer.Argument(help="Only rules from this item; without, all.")] = None,
    most: Annotated[int, typer.Option("--most", help="At most so many.", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """Show who buys this buys that: the association rules in force, highest lift first.

    Example: journey models rules p-9
    """
    version, found = asyncio.run(_rules(load()))
    console = Console(highlight=False)
    if as_json:
        chosen = _chosen(found, item)
        shown = [
            {"left": rule.left, "right": rule.right, "together": rule.together, "support": rule.support,
             "confidence": rule.confidence, "lift": rule.lift}
            for rule in chosen[:most]
        ]  # fmt: skip
        told = {"version": version, "orders": found.baskets, "found": len(chosen), "rules": shown}
        console.file.write(orjson.dumps(told).decode() + "\n")
        return
    show_rules(console, version, found, item, most)


def _chosen(found: Rules, item: str | None) -> list[Rule]:
    return [rule for rule in found.found if item in (None, rule.left)]


def show_rules(console: Console, version: int, found: Rules, item: str | None = None, most: int = 20) -> None:
    """Print rules for a person, in 80 columns: all, or those from an item."""
    chosen = _chosen(found, item)
    of = f"{'rule' if len(chosen) == 1 else 'rules'}{'' if item is None else f' from {item}'}"
    console.print(escape(f"rules/{version}: {len(chosen):,} {of}, counted in {found.baskets:,} orders"))
    if not chosen:
        return
    table = Table(
        "who buys", "also buys", "orders with both", "confidence", "lift", box=None, pad_edge=False,
        padding=(0, 2, 0, 0),
    )  # fmt: skip
    for column in table.columns[2:]:
        column.justify = "right"
    for rule in chosen[:most]:
        figures = f"{rule.together:,}", f"{rule.confidence:.2f}", f"{rule.lift:.1f}"
        table.add_row(escape(rule.left), escape(rule.right), *figures)
    console.print(table)
    if len(chosen) > most:
        console.print(f"and {len(chosen) - most:,} more: --most {len(chosen)}")


async def _rules(settings: Settings) -> tuple[int, Rules]:
    known = (await _standing(settings)).in_force.get("rules")
    if known is None:
        msg = "no rules yet: learners look for them from the hundredth order on, and once a week"
        raise NotFoundError(msg)
    model, version, digest = known
    try:
        payload = await ModelsLog(settings).get(model, version, digest)
    except MissingModelError as error:
        raise NotFoundError(str(error)) from None
    return version, Rules.restore(payload["state"])


async def survey(settings: Settings) -> dict[str, Any]:
    """Return, for each slot, what is in force, and the newest version of each model that is for it."""
    standing = await _standing(settings)
    versions = await ModelsLog(settings).envelopes()
    newest: dict[str, dict[str, Any]] = {}
    by_name = {}
    for one in versions:
        by_name[one["model"], one["version"]] = one
        if one["version"] >= newest.get(one["model"], one)["version"] and _is_shown(one):
            newest[one["model"]] = one
    slots: dict[str, Any] = {}
    for one in newest.values():
        slots.setdefault(_slot(one), []).append(one)
    told = {}
    for slot in sorted({*slots, *standing.in_force}):
        known = standing.in_force.get(slot)
        force = None
        if known is not None:
            missing = {"model": known[0], "version": known[1], "fault": "its snapshot is not there"}
            force = by_name.get((known[0], known[1]), missing)
        rest = [one for one in slots.get(slot, ()) if force is None or one["model"] != force["model"]]
        ahead = next((one["version"] for one in slots.get(slot, ()) if force and one["model"] == force["model"]), None)
        told[slot] = {
            "frozen": slot in standing.frozen, "in_force": force, "newest": ahead,
            "others": sorted(rest, key=lambda one: str(one["model"])),
        }  # fmt: skip
    return {"slots": told}


def _is_shown(envelope: Mapping[str, Any]) -> bool:
    """Tell whether a version may be in force one day; a part of another is not shown."""
    return envelope.get("role") is not None or "fault" in envelope


def _slot(envelope: Mapping[str, Any]) -> str:
    return str(envelope.get("slot") or str(envelope["model"]).partition(".")[0])


class Column(NamedTuple):
    """A figure of a table of versions, and how it is read from metrics."""

    title: str
    read: Callable[[Mapping[str, Any]], str]
    justify: Literal["left", "right"] = "right"


def _ranged(name: str) -> Callable[[Mapping[str, Any]], str]:
    """Return a reader of a figure, with its interval where that is told."""

    def read(metrics: Mapping[str, Any]) -> str:
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        told = _short(metrics.get(name))
        return told if low is None or high is None else f"{told} {_short(low)}-{_short(high)}"

    return read


def _counted(metrics: Mapping[str, Any]) -> str:
    """Return the other figures there are, such as ``6 segments``."""
    known = (("segments", "segments"), ("rules", "rules"), ("again", "came again"))
    return ", ".join(f"{metrics[name]:,} {noun}" for name, noun in known if metrics.get(name) is not None)


# what a table has beside what all have, by a figure that its models tell
COLUMNS: Final[Mapping[str, tuple[Column, ...]]] = {
    "log_loss": (
        Column("AUC (95 %)", _ranged("auc"), "left"),
        Column("loss", lambda metrics: _short(metrics.get("log_loss"))),
        Column("trivial", lambda metrics: _short(metrics.get("baseline_log_loss"))),
    ),
    "recall": (
        Column("recall (95 %)", _ranged("recall"), "left"),
        Column("popular", lambda metrics: _short(metrics.get("baseline_recall"))),
    ),
    "r2": (Column("R2", lambda metrics: _short(metrics.get("r2"))),),
}
OTHERS: Final = (Column("", _counted, "left"),)


def show(console: Console, slot: str, told: Mapping[str, Any], now: int, *, verbose: bool = False) -> None:
    """Print one slot for a person, in 80 columns; ``now`` is the time in ms.

    Of challengers the verdict is told of those that may be promoted, of all with ``verbose``.
    """
    force = told["in_force"]
    name = "nothing is in force" if force is None else f"{force['model']}/{force['version']} is in force"
    frozen = ", [yellow]frozen[/]: nothing is adopted by itself" if told["frozen"] else ""
    newest = told["newest"]
    ahead = f" (newest: {newest})" if force is not None and newest not in (None, force["version"]) else ""
    console.print(f"[bold]{escape(slot)}[/]: {escape(name)}{ahead}{frozen}", soft_wrap=True)
    rows = [*([] if force is None else [force]), *told["others"]]
    figures = [one["metrics"] for one in rows if one.get("metrics")]
    columns = next((COLUMNS[kind] for kind in COLUMNS if any(kind in metrics for metrics in figures)), OTHERS)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title, _, justify in (
        Column("  version", _counted, "left"), Column("samples", _counted), Column("trust", _counted, "left"),
        *columns, Column("age", _counted), Column("size", _counted),
    ):  # fmt: skip
        table.add_column(title, justify=justify, no_wrap=True)
    notes = []
    for one in rows:
        name = f"{one['model']}/{one['version']}"
        if "fault" in one:
            table.add_row(f"  {escape(name[:20])}", NONE, "[red]bad[/]")
            notes.append(f"{name}: {one['fault']}")
            continue
        metrics, samples = one.get("metrics") or {}, one.get("samples")
        table.add_row(
            f"  {escape(name[:20])}", NONE if samples is None else f"{samples:,}", str(one.get("trust") or NONE),
            *(column.read(metrics) for column in columns), _age(now - int(one["at"])),
            f"{int(one['bytes']) / 1000:,.1f}k",
        )  # fmt: skip
        notes += _notes(name, one, verbose=verbose)
    if table.row_count:
        console.print(table)
    for note in notes:
        for line in textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False):
            console.print(escape(line), soft_wrap=True)


def _notes(name: str, envelope: Mapping[str, Any], *, verbose: bool) -> list[str]:
    notes = []
    drift = (envelope.get("metrics") or {}).get("drift")
    if drift:
        means = f", log-loss {_short(drift['before'])} -> {_short(drift['after'])}" if "after" in drift else ""
        since = f", since {rfc3339(int(drift['since']))[:10]}" if "since" in drift else ""
        notes.append(f"{name} saw a drift at {rfc3339(int(drift['at']))[:16]}{since}{means}")
    verdict = envelope.get("verdict") or {}
    is_better = bool(verdict.get("promote"))
    why = verdict.get("text") or verdict.get("why")
    if why and (is_better or verbose):
        notes.append(f"{name}: {why}")
    if is_better:
        notes.append(f"to put it in force: journey promote {name}")
    return notes


def _short(value: float | None) -> str:
    """Return a number below 1 as it is said: ``.859``."""
    return NONE if value is None else f"{value:.3f}".removeprefix("0")


def _age(ms: int) -> str:
    minutes = max(0, ms) // 60_000
    for size, unit in ((1440, "d"), (60, "h")):
        if minutes >= size:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


# ---- deciding --------------------------------------------------------------------------------------------------------


def promote(
    name: Annotated[str, typer.Argument(metavar="MODEL/VERSION", help="Such as churn.boosted/7.")],
) -> None:
    """Put a version of a model in force in its slot; its later versions follow by themselves.

    Example: journey promote churn.boosted/7
    """
    model, _, number = name.rpartition("/")
    if not model or not number.isdigit():
        msg = f"{name}: write a model and a version, such as churn.boosted/7; `journey models` shows what there is"
        raise SettingsError(msg)
    slot, before, took = asyncio.run(adopt(load(), model, int(number)))
    _say(f"{slot}: {name} is in force from now on, in place of {before}")
    if took > MOST_MICROSECONDS:
        most = f"at most {MOST_MICROSECONDS:.0f} us are advised"
        _say(f"a score of it takes {took:.0f} us: engines are slower for it ({most})")


def rollback(
    slot: Slot,
    to: Annotated[int | None, typer.Option("--to", help="A version; without, the one before.", min=0)] = None,
) -> None:
    """Put the version before in force again, and freeze the slot, so that nothing newer is adopted by itself.

    Example: journey rollback churn --to 41
    """
    settings = load()

    async def work() -> tuple[str, str]:
        standing = await _standing(settings)
        model, number = before(standing, slot, to)
        found = await usable(settings, model, number, slot)
        await _send(settings, {"v": 1, "k": "freeze", "slot": slot})  # first: else the next one could come between
        return f"{model}/{number}", await _put(settings, found)

    name, replaced = asyncio.run(work())
    _say(f"{slot}: {name} is in force again, in place of {replaced}")
    _say(f"{slot} is frozen now: nothing is adopted there by itself until `journey unfreeze {slot}`")


def freeze(slot: Slot) -> None:
    """Let nothing be adopted in a slot by itself; `promote` and `rollback` still do.

    Example: journey freeze churn
    """
    _say(f"{slot} is frozen" if asyncio.run(_froze(load(), slot, "freeze")) else f"{slot} is frozen already")


def unfreeze(slot: Slot) -> None:
    """Let new versions be adopted again, from the next one that is published on.

    Example: journey unfreeze churn
    """
    changed = asyncio.run(_froze(load(), slot, "unfreeze"))
    text = "is free again: the next version that is published is adopted" if changed else "is not frozen"
    _say(f"{slot} {text}")


async def adopt(settings: Settings, model: str, number: int) -> tuple[str, str, float]:
    """Put a version in force; return its slot, what was in force there, and the microseconds that a score takes.

    Raises
    ------
    SlotError
        The version cannot be used (see ``usable``), or others were adopted each time meanwhile.
    """
    found = await usable(settings, model, number)
    return str(found["slot"]), await _put(settings, found), found["microseconds"]


async def usable(settings: Settings, model: str, number: int, slot: str | None = None) -> dict[str, Any]:
    """Return the envelope of a version that the engine can load in a slot; without one, in the slot it is for.

    Raises
    ------
    SlotError
        There is no such version, it is not signed with our key, or the engine could not load it there.
    """
    log = ModelsLog(settings)
    versions = await log.envelopes(model)
    found = next((one for one in versions if one["version"] == number), None)
    if found is None:
        there = ", ".join(str(one["version"]) for one in versions[-5:])
        msg = f"model {model}/{number} was never published" + (
            f": the newest versions are {there}" if there else ": `journey models` shows what there is"
        )
        raise SlotError(msg)
    if "fault" in found:
        msg = f"{found['fault']}: nothing was adopted"
        raise SlotError(msg)
    place = slot or str(found["slot"])
    try:
        payload = await log.get(model, number, found["sha256"])
        if found.get("role") is None and not is_empty(payload):
            msg = (
                f"model {model}/{number} is a part of others and for no slot: `journey models` shows what can be "
                "adopted"
            )
            raise SlotError(msg)
        loaded = check_loads(model, number, payload, place)
        if slot is None:  # what was in force once may be again
            check_fit(found)
    except (SnapshotError, MissingModelError) as error:
        msg = f"{error}: nothing was adopted"
        raise SlotError(msg) from None
    return {**found, "slot": place, "microseconds": microseconds(loaded)}


async def _put(settings: Settings, found: Mapping[str, Any]) -> str:
    """Put a version in force in its slot; return what was in force there."""
    model, number, place = found["model"], found["version"], found["slot"]
    replaced = None
    for _ in range(ATTEMPTS):
        standing = await _standing(settings)
        known = standing.in_force.get(place)
        if known == [model, number, found["sha256"]]:
            return replaced or f"{known[0]}/{known[1]}, which it was already"
        replaced = "nothing" if known is None else f"{known[0]}/{known[1]}"
        await _send(settings, adoption_of(found, standing))
    standing = await _standing(settings)
    if standing.in_force.get(place) == [model, number, found["sha256"]]:
        return str(replaced)
    msg = f"other versions were adopted in {place} meanwhile, each time: run `journey freeze {place}`, then this again"
    raise SlotError(msg)


def before(standing: Standing, slot: str, to: int | None) -> tuple[str, int]:
    """Return the model and the version to go back to: the one that was in force before the present one first was.

    Raises
    ------
    NotFoundError
        Nothing was ever in force in this slot.
    SlotError
        There is none before it, or this version was never in force there.
    """
    past = _history(standing, slot)
    present = past[-1]
    if to is not None:
        found = [one for one in past if one.version == to]
        if found:
            return found[-1].model, to
        known = ", ".join(dict.fromkeys(str(one.version) for one in past[-8:]))
        msg = f"version {to} was never in force in {slot}, lately there were {known}: `journey promote` takes any other"
        raise SlotError(msg)
    first = next(index for index, one in enumerate(past) if one[:2] == present[:2])
    if not first:
        msg = f"nothing was in force before {present.model}/{present.version}: `journey freeze {slot}` keeps it"
        raise SlotError(msg)
    return past[first - 1].model, past[first - 1].version


def _history(standing: Standing, slot: str) -> list[Adopted]:
    past = standing.history.get(slot)
    if not past:
        known = ", ".join(sorted(standing.history)) or "none yet"
        msg = f"nothing was ever in force in the slot {slot}; slots with a model: {known}"
        raise NotFoundError(msg)
    return past


async def _froze(settings: Settings, slot: str, kind: str) -> bool:
    standing = await _standing(settings)
    if kind == "freeze" and slot not in standing.frozen and slot not in standing.in_force:
        _history(standing, slot)  # a slot that nobody knows is a typing error
    if (slot in standing.frozen) == (kind == "freeze"):
        return False
    await _send(settings, {"v": 1, "k": kind, "slot": slot})
    return True


async def _standing(settings: Settings) -> Standing:
    async with consumer(settings) as client:
        await partitions_of(client, settings.topic(topics.CONTROL))  # says so where there is no such topic
    control = ControlLog(settings)
    try:
        return await (await control.start()).read()
    finally:
        await control.stop()


async def _send(settings: Settings, message: dict[str, Any]) -> None:
    writer = await Log(settings.kafka_url, settings.batch_bytes).start()
    try:
        await writer.append(settings.topic(topics.CONTROL), 0, [(None, orjson.dumps(message))])
    finally:
        await writer.stop()


def _say(text: str) -> None:
    Console(highlight=False).print(escape(text), soft_wrap=True)

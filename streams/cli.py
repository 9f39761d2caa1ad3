"""The command line: ``journey``.

Exit status: 0 done; 1 the answer is no (a difference, a problem found,
nothing under this id); 2 it could not be done, and the message says what to
do; 130 interrupted.
"""

from __future__ import annotations

import asyncio
import inspect as python_inspect
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from journey.errors import BadTimeError, JourneyError
from journey.triggers import rfc3339
from streams import (
    cli_audit,
    cli_config,
    cli_customer,
    cli_epochs,
    cli_models,
    cli_ops,
    compiled,
    epochs,
    inspect,
    topics,
)
from streams import replay as replays
from streams.arrivals import parse_time
from streams.collector import calm
from streams.errors import NotFoundError, SettingsError, ShellError
from streams.files import read_events
from streams.publish import ClockError, Publisher, clock_of, load
from streams.settings import Settings
from streams.settings import load as load_settings
from streams.topics import Admin

FAILED: Final = 2
INTERRUPTED: Final = 130
MOST_NAMED: Final = 5  # of what differs

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False,
    help="A customer-journey engine: events in, customer state and next-action triggers out, replay verified.",
    epilog="Settings are environment variables, JOURNEY_KAFKA_URL and others: see the README.",
)  # fmt: skip
topics_app = typer.Typer(no_args_is_help=True, help="Create and check the topics.")
letters_app = typer.Typer(no_args_is_help=True, help="Look at what was refused, and send it again.")
cache_app = typer.Typer(no_args_is_help=True, help="The read model in Redis.")
app.add_typer(topics_app, name="topics")
app.add_typer(letters_app, name="dead-letters")
app.add_typer(cache_app, name="cache")

cli_audit.register(app)
cli_config.register(app)
cli_epochs.register(app)
cli_models.register(app)
cli_ops.register(app)

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]


def _out() -> Console:
    return Console(highlight=False)


def _err() -> Console:
    return Console(stderr=True, highlight=False)


def _json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def _live(settings: Settings) -> Settings:
    """Return the settings of the epoch that is live."""
    return asyncio.run(epochs.live(settings))


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@contextmanager
def _bar(text: str, total: int | None, *, show: bool, items: bool = True) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error while the body runs; yields a function that sets how far it is."""
    columns = (
        SpinnerColumn(), TextColumn(text), BarColumn(bar_width=24),
        MofNCompleteColumn() if items else TaskProgressColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=_err(), transient=True, disable=not show or not sys.stderr.isatty()) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.update(task, completed=done)


def _time(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_time(option, text)
    except BadTimeError as error:
        msg = f"--{option} {text}: {error.detail}"
        raise SettingsError(msg) from None


def _duration(text: str, option: str) -> timedelta:
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        return timedelta(**{units[text[-1]]: float(text[:-1])})
    except (KeyError, ValueError, IndexError, OverflowError):
        msg = f"--{option} {text}: write a number and s, m, h or d, such as 90d"
        raise SettingsError(msg) from None


# ---- running ---------------------------------------------------------------------------------------------------------


@app.command()
def worker(
    roles: Annotated[str, typer.Option(help="ingest, engine, learn, or several with commas; all.")] = "all",
) -> None:
    """Run the engine: creates and checks the topics, then works until it is stopped.

    Example: journey worker --roles ingest,engine
    """
    from streams.app import parse_roles, run_worker  # loads Faust: a second that other commands need not wait

    run_worker(load_settings(), parse_roles(roles))


@app.command()
def demo(
    source: Annotated[
        Path | None, typer.Option("--input", help="A file of events instead of the generated shop (see `load`).")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Events a second; 0: as fast as it goes.", min=0)] = None,
    seed: Annotated[int, typer.Option(help="Of the generated shop.", min=0)] = 1,
    currency: Annotated[str, typer.Option(help="Of amounts in a CSV file.")] = "EUR",
    shift: Annotated[str, typer.Option(help="Move a file's times, such as 9000d.")] = "0d",
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end, until Ctrl-C.")] = False,
) -> None:
    """Show the whole system in a minute: own broker, a shop's traffic, live screen, replay verified. Ends by itself.

    Example: journey demo --input events.csv.gz
    """
    from streams.demo import Demo  # loads what only the demo needs

    moved = _duration(shift, "shift")
    sys.exit(_run(Demo(source=source, rate=rate, seed=seed, currency=currency, shift=moved, keep=keep).run()))


@app.command("load")
def load_file(
    file: Annotated[str, typer.Argument(help="CSV or JSON lines, plain or .gz; - for standard input.")],
    clock: Annotated[
        str, typer.Option(help="events: time passes as in the file; wall: now; auto: as the journal has it.")
    ] = "auto",
    rate: Annotated[float | None, typer.Option(help="Most events a second.", min=0.001)] = None,
    historical: Annotated[
        bool, typer.Option("--historical", help="An import: builds state, sends no trigger.")
    ] = False,
    currency: Annotated[str, typer.Option(help="Of amounts in a CSV file.")] = "EUR",
    shift: Annotated[str, typer.Option(help="Move all times, such as 9000d.")] = "0d",
    until: Annotated[str | None, typer.Option(help="Then let time pass up to this moment (events clock).")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for ingest at the end.", min=0)] = 60.0,
    as_json: Json = False,
) -> None:
    """Publish a file of events to the raw topics.

    CSV has the columns ts, customer_id, type, item_id, category, value,
    quantity, extra; a JSON line is a raw event. A worker has to run.

    Example: journey load shop.csv.gz --historical
    """
    settings = load_settings()
    if clock not in ("auto", "wall", "events"):
        msg = f"--clock {clock}: choose auto, wall or events"
        raise SettingsError(msg)
    end = _time(until, "until")
    moved = _duration(shift, "shift")
    skipped: Counter[str] = Counter()
    size = Path(file).stat().st_size if file != "-" and Path(file).exists() else None
    read = 0

    def on_bytes(count: int) -> None:
        nonlocal read
        read += count

    records = read_events(
        file, currency=currency, shift=moved, historical=historical, on_bytes=on_bytes, skipped=skipped
    )
    first = list(islice(records, 1))  # a file that cannot be read says so before anything is touched
    settings = _live(settings)

    async def work() -> dict[str, Any]:
        async with Publisher(settings) as publisher:
            used = await _clock_for(settings, clock, historical=historical)
            if used == "events":
                await publisher.use_events_clock()
            with _bar("publishing", size, show=not as_json, items=False) as show:
                sent = await load(
                    publisher, chain(first, records), clock=used, rate=rate, on_progress=lambda _: show(read)
                )
            if wait:
                await publisher.wait_taken(wait)
            if end is not None:
                if used != "events":
                    msg = "--until moves the events' clock; this journal runs on the wall clock"
                    raise ClockError(msg)
                await publisher.control(k="tick", at=end)
            return {
                "published": sent,
                "clock": used,
                "historical": historical,
                "skipped": dict(sorted(skipped.items())),
            }

    told = _run(work())
    if as_json:
        _json(told)
        return
    _out().print(f"published {told['published']:,} events on the {told['clock']} clock")
    for name, count in told["skipped"].items():
        _out().print(f"  not events, left out: {count:,} x {escape(name)}")


async def _clock_for(settings: Settings, wanted: str, *, historical: bool) -> str:
    """Return the clock to load on, or refuse what would act on the past as if it were now."""
    if wanted != "auto":
        return wanted
    found, is_empty = await clock_of(settings)
    if is_empty or found == "events":
        return "events"
    if historical:
        return "wall"
    msg = (
        "this journal is live (wall clock). Events of the past: add --historical, they build state and send nothing. "
        "Events of now: add --clock wall"
    )
    raise ClockError(msg)


# ---- looking ---------------------------------------------------------------------------------------------------------


@app.command()
def tail(
    as_json: Json = False,
    beginning: Annotated[bool, typer.Option("--from-beginning", help="All that is kept, then what comes.")] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after so many.", min=1)] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only this type, such as journey.trigger.v1.")] = None,
    alarms: Annotated[bool, typer.Option("--alarms", help="Alarms about models instead, such as a drift.")] = False,
) -> None:
    """Follow the triggers as they are sent, or the alarms.

    Example: journey tail --type journey.trigger.v1 --json
    """
    settings = load_settings()
    topic, line = (topics.ALARMS, inspect.alarm_line) if alarms else (topics.TRIGGERS, inspect.trigger_line)

    async def work() -> None:
        shown = 0
        async for record in inspect.follow(settings, [topic], from_beginning=beginning):
            event = orjson.loads(record.value)
            if type_ is not None and event["type"] != type_:
                continue
            if as_json:
                _json(event)
            else:
                _out().print(line(event), soft_wrap=True)
            shown += 1
            if shown == limit:
                return

    _run(work())


@app.command()
def customer(
    name: Annotated[str, typer.Argument(metavar="ID", help="A user id, an anonymous id, or a key such as u:42.")],
    where: Annotated[Literal["redis", "table"], typer.Option("--from", help="The read model, or the state itself.")] = (
        "redis"
    ),
    as_json: Json = False,
) -> None:
    """Show what is known of one customer: stage, segments, scores and how sure they are, what to recommend.

    With --from table also why each score is what it is.

    Example: journey customer 42 --from table --json
    """
    settings = load_settings()
    if where == "redis":
        document = _run(inspect.shown_customer(settings, name))
        if as_json:
            _json(document)
        else:
            cli_customer.show(_out(), document, where, None)
        return
    stored = _run(inspect.stored_customer(_live(settings), name))
    if as_json:
        _json(stored.record | {"explanations": stored.explanations})
    else:
        cli_customer.show(_out(), stored.document, where, stored.explanations)


# ---- replay ----------------------------------------------------------------------------------------------------------


@app.command()
def replay(
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with the live state; exit status 1 if different.")
    ] = (False),
    output: Annotated[Path | None, typer.Option(help="Write every record as a JSON line.")] = None,
    to_offset: Annotated[int | None, typer.Option(help="Stop after this page of each partition.", min=0)] = None,
    until: Annotated[str | None, typer.Option(help="Stop at this journal time, such as 2026-11-20T00:00:00Z.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the engine to reach the cut.", min=0)] = 60.0,
    as_json: Json = False,
) -> None:
    """Fold the journal from its beginning: into a report, into a file, or against the live state.

    Example: journey replay --verify
    """
    settings = load_settings()
    loop_time = asyncio.new_event_loop().time
    begin = loop_time()
    if verify:
        if output is not None or to_offset is not None or until is not None:
            msg = "--verify compares the whole journal: leave out --output, --to-offset and --until"
            raise SettingsError(msg)
        with _bar("folding", None, show=not as_json) as show:
            verdict = _run(replays.verify(_live(settings), within=wait, on_progress=lambda _, entries: show(entries)))
        if as_json:
            _json(verdict.shown())
        else:
            _show_verdict(verdict, loop_time() - begin)
        sys.exit(0 if verdict.identical else 1)
    moment = _time(until, "until")
    settings = _live(settings)

    async def work() -> dict[int, replays.Folded]:
        ends = None if to_offset is None else dict.fromkeys(range(settings.partitions), to_offset + 1)
        with _bar("folding", None, show=not as_json) as show:
            return await replays.replay(settings, ends=ends, until=moment, on_progress=lambda _, entries: show(entries))

    folded = _run(work())
    seconds = loop_time() - begin
    report = _replay_report(folded, seconds)
    if output is not None:
        with output.open("wb") as file:
            for number in sorted(folded):
                for key, value in sorted(folded[number].records().items()):
                    name = key.decode().replace("\0", "")
                    line = {"partition": number, "key": name, "record": orjson.Fragment(value)}
                    file.write(orjson.dumps(line) + b"\n")
        report["output"] = str(output)
    if as_json:
        _json(report)
        return
    _out().print(
        f"folded {report['entries']:,} entries of {report['pages']:,} pages in {seconds:.1f} s "
        f"({report['entries_per_second']:,}/s): {report['customers']:,} customers, {report['triggers']:,} triggers"
    )
    for name, count in report["stages"].items():
        _out().print(f"  {name:<12}{count:>8,}")
    _out().print(f"digest {report['digest']}" + (f", written to {output}" if output else ""))


def _replay_report(folded: dict[int, replays.Folded], seconds: float) -> dict[str, Any]:
    from journey.stages import stage_name

    entries = sum(one.entries for one in folded.values())
    everybody = [customer for one in folded.values() for customer in one.shard.touched.values()]
    whole: dict[bytes, bytes] = {}
    for one in folded.values():
        whole.update(one.records())
    return {
        "pages": sum(one.pages for one in folded.values()), "entries": entries, "customers": len(everybody),
        "triggers": sum(len(one.trigger_ids) for one in folded.values()),
        "stages": dict(sorted(Counter(stage_name(customer) for customer in everybody).items())),
        "positions": {str(number): one.at for number, one in sorted(folded.items())},
        "journal_time": {
            str(number): rfc3339(one.shard.partition["now"]) for number, one in sorted(folded.items()) if one.pages
        },
        "digest": replays.digest(whole), "seconds": round(seconds, 3),
        "entries_per_second": round(entries / seconds) if seconds else 0,
    }  # fmt: skip


def _show_verdict(verdict: replays.Verdict, seconds: float) -> None:
    console = _out()
    table = Table("partition", "live", "replayed", "", box=None, pad_edge=False)
    for number, (live, again) in sorted(verdict.digests.items()):
        table.add_row(str(number), live[:24], again[:24], "[green]same[/]" if live == again else "[red]differs[/]")
    console.print(table)
    console.print(
        f"{verdict.customers:,} customers, {verdict.entries:,} entries, {verdict.triggers:,} triggers "
        f"(+{verdict.trigger_repeats} repeats under the same id) in {seconds:.1f} s"
    )
    console.print(f"{verdict.samples:,} samples, {verdict.models:,} versions of models learned again from them")
    if verdict.models_not_compared:
        console.print(
            f"{verdict.models_not_compared:,} versions are not compared: another version of this program began to "
            "learn their families",
            soft_wrap=True,
        )
    for slot, versions in verdict.adopted.items():
        if len(versions) > 1:  # an adoption is in some partitions before it is in others
            console.print(f"in force in {escape(slot)}, by partition: {escape(', '.join(versions))}", soft_wrap=True)
    if verdict.identical:
        models = "the models" if not verdict.models_not_compared else "the compared models" if verdict.models else ""
        of_samples = f", {models} of their samples" if models else ""
        console.print(f"[green]identical[/]: the state is the fold of its journal{of_samples}", soft_wrap=True)
        return
    console.print(f"[red]different[/]: {_what_differs(verdict)}", soft_wrap=True)
    for kind, named in (("samples", verdict.samples_different), ("models", verdict.models_different)):
        if named:
            rest = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
            told = "; ".join(named[:MOST_NAMED])
            console.print(f"{kind} that differ: {escape(told)}{rest}", soft_wrap=True)
    if verdict.differences:
        first = verdict.differences[0]
        console.print(f"first difference: {escape(first.key)} in partition {first.partition}")
        for part in inspect.differing_parts(first.live, first.replayed):
            console.print("  " + escape(part), soft_wrap=True)
    for text, names in (("not sent", verdict.triggers_missing), ("not in the fold", verdict.triggers_surplus)):
        if names:
            console.print(f"triggers {text}: {len(names)}, first {names[0]}")


def _what_differs(verdict: replays.Verdict) -> str:
    is_told = verdict.triggers_missing or verdict.triggers_surplus
    faults = (
        (verdict.differences, "the live state is not the fold of its journal"),
        (is_told, "the triggers are not those of the fold"),
        (verdict.samples_different, "the samples are not those of the fold"),
        (verdict.models_different, "some models are not what their samples give"),
    )
    return "; ".join(text for found, text in faults if found)


# ---- topics ----------------------------------------------------------------------------------------------------------


@topics_app.command("create")
def topics_create(as_json: Json = False) -> None:
    """Create the topics that are missing, with their partitions and retention.

    Example: journey topics create
    """

    async def work() -> list[str]:
        async with Admin(await epochs.live(load_settings())) as admin:
            return await admin.create()

    created = _run(work())
    if as_json:
        _json({"created": created})
        return
    for name in created:
        _out().print(f"created {name}")
    if not created:
        _out().print("nothing to create")


@topics_app.command("check")
def topics_check(as_json: Json = False) -> None:
    """Compare the topics with what the engine needs; exit status 1 when something differs.

    Example: journey topics check --json
    """

    async def work() -> list[topics.Finding]:
        async with Admin(await epochs.live(load_settings())) as admin:
            return await admin.check()

    findings = _run(work())
    if as_json:
        _json({"findings": [vars(found) for found in findings]})
    else:
        for found in findings:
            mark = "[red]refuses[/]" if found.refuses else "[yellow]differs[/]"
            _out().print(f"{mark} {escape(found.topic)}: {escape(found.text)}", soft_wrap=True)
        if not findings:
            _out().print("all topics are as they have to be")
    sys.exit(1 if findings else 0)


# ---- dead letters ----------------------------------------------------------------------------------------------------


@letters_app.command("list")
def letters_list(
    reason: Annotated[str | None, typer.Option(help="Only this reason, such as bad_time.")] = None,
    limit: Annotated[int, typer.Option(help="Show at most so many.", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """Show what was refused, why, and where it lies. With --json every letter is a line, fit for `resend --file`.

    Example: journey dead-letters list --reason bad_money
    """
    letters = _run(inspect.dead_letters(load_settings(), reason))
    if as_json:
        for letter in letters:
            _json(inspect.readable(letter))
        return
    table = Table("reason", "source", "field", "detail", box=None, pad_edge=False)
    for letter in letters[-limit:]:
        at = letter["source"]
        where = f"{at['topic']}/{at['partition']}@{at['offset']}"
        table.add_row(letter["reason"], where, letter.get("field") or "", escape(letter["detail"][:60]))
    console = _out()
    if letters:
        console.print(table)
        counts = Counter(letter["reason"] for letter in letters)
        told = ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
        console.print(f"{len(letters):,} dead letters: {told}")
    else:
        console.print("no dead letters")


@letters_app.command("resend")
def letters_resend(
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    file: Annotated[str | None, typer.Option(help="Repaired letters: the output of `list --json`, edited.")] = None,
    as_json: Json = False,
) -> None:
    """Send again what would be accepted now: letters that became valid, or repaired ones from a file.

    Example: journey dead-letters list --json > letters.jsonl, edit the values,
    then journey dead-letters resend --file letters.jsonl
    """
    settings = load_settings()

    async def work() -> tuple[int, list[tuple[dict[str, Any], str]]]:
        letters = inspect.read_repaired(file) if file is not None else await inspect.dead_letters(settings, reason)
        return await inspect.resend(settings, [one for one in letters if reason in (None, one["reason"])])

    sent, left = _run(work())
    if as_json:
        _json({"sent": sent, "left": [{"source": letter["source"], "why": why} for letter, why in left]})
        return
    _out().print(f"sent {sent:,} again, left {len(left):,} that would be refused again")
    for why, count in Counter(why for _, why in left).most_common(10):
        _out().print(f"  {count:,} x {escape(why)}", soft_wrap=True)


# ---- read model ------------------------------------------------------------------------------------------------------


@cache_app.command("rebuild")
def cache_rebuild(as_json: Json = False) -> None:
    """Fill Redis anew from the live state; the workers may run.

    Example: journey cache rebuild
    """
    with _bar("writing", None, show=not as_json) as show:
        done = _run(inspect.rebuild_cache(_live(load_settings()), lambda count, _: show(count)))
    if as_json:
        _json({"customers": done})
    else:
        _out().print(f"the read model shows {done:,} customers")


# ---- the end ---------------------------------------------------------------------------------------------------------


def what_to_do(error: Exception) -> str:
    """Return what the class of an error tells the operator, in one line."""
    told = python_inspect.getdoc(type(error)) or ""
    return " ".join(told.partition("Operator:")[2].split())


def main() -> None:
    """Run the command line; every expected failure is one clear message."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # our own messages say what to do
    try:
        compiled.check()
        calm()
        app(standalone_mode=True)
    except NotFoundError as error:
        _err().print(f"journey: {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except (ShellError, JourneyError) as error:
        _err().print(f"[red]journey:[/] {escape(str(error))}", soft_wrap=True)
        if told := what_to_do(error):
            _err().print(f"[dim]{escape(told)}[/]", soft_wrap=True)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        _err().print("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # the reader of our output went away; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()

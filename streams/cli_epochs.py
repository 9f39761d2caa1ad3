"""Commands on epochs and on what ingest reads: upgrade, rebuild, go-live, ingest accept-hole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from streams import epochs, holes, switch
from streams.errors import SettingsError
from streams.inspect import ReadModelError, rebuild_cache
from streams.publish import go_live
from streams.rebuild import Past
from streams.settings import load
from streams.status import until_learned

WITHIN: Final = 120.0

Switch = Annotated[bool, typer.Option("--switch", help="Make what was built the live epoch.")]
Discard = Annotated[bool, typer.Option("--discard", help="Delete what was built; the live epoch goes on.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for workers, when switching.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]

ingest_app = typer.Typer(no_args_is_help=True, help="What ingest reads.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(upgrade)
    app.command()(rebuild)
    app.command("go-live")(live)
    app.add_typer(ingest_app, name="ingest")


def upgrade(switch_to: Switch = False, discard: Discard = False, wait: Wait = WITHIN, as_json: Json = False) -> None:
    """Fold the journal anew, by this version, beside the live state; then --switch to it or --discard it.

    Example: journey upgrade, then journey upgrade --switch
    """
    _epoch("upgrade", switch_to=switch_to, discard=discard, past="raw", wait=wait, as_json=as_json)


def rebuild(
    switch_to: Switch = False, discard: Discard = False,
    from_cut: Annotated[
        bool, typer.Option("--from-cut", help="Take what retention took of the raw topics from the live journal.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Begin where the raw topics begin, though older records are gone.")
    ] = False,
    wait: Wait = WITHIN, as_json: Json = False,
) -> None:  # fmt: skip
    """Make a new journal from the raw topics, in the order of time, beside the live one; then --switch or --discard.

    Example: journey rebuild, then journey rebuild --switch
    """
    if from_cut and partial:
        msg = "--from-cut keeps what is gone from the raw topics, --partial forgets it: choose one"
        raise SettingsError(msg)
    past: Past = "journal" if from_cut else "rest" if partial else "raw"
    _epoch("rebuild", switch_to=switch_to, discard=discard, past=past, wait=wait, as_json=as_json)


class _Shown:
    """Progress on standard error, and how many were done of each step in which time. Steps may overlap."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self._begins: dict[str, float] = {}
        self.begin = time.monotonic()
        self.done: dict[str, tuple[int, float]] = {}

    def __call__(self, what: str, count: int) -> None:
        """Show how far a step is."""
        begin = self._begins.setdefault(what, time.monotonic())
        self.done[what] = (count, time.monotonic() - begin)
        counted = (f"{step} {number:,}" for step, (number, _) in self.done.items() if number)
        self._progress.update(self._task, description=", ".join(counted) if count else what)

    @property
    def seconds(self) -> float:
        """How long all of it took so far."""
        return time.monotonic() - self.begin


@contextmanager
def _progress(*, show: bool) -> Iterator[_Shown]:
    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not (show and console.is_terminal)) as progress:
        yield _Shown(progress)


def _epoch(kind: switch.Kind, *, switch_to: bool, discard: bool, past: Past, wait: float, as_json: bool) -> None:
    if switch_to and discard:
        msg = "--switch and --discard are two things: choose one"
        raise SettingsError(msg)
    settings = load()
    with _progress(show=not as_json) as shown:
        if discard:
            plan = asyncio.run(switch.discard(settings))
        elif switch_to:
            plan = asyncio.run(switch.switch(settings, kind, shown, within=wait))
        else:
            plan = asyncio.run(switch.build(settings, kind, shown, past=past))
    steps = {
        what: {"count": count, "seconds": round(seconds, 2), "per_second": round(count / seconds) if seconds else 0}
        for what, (count, seconds) in shown.done.items() if count
    }  # fmt: skip
    seconds = round(shown.seconds, 2)
    cache = _refilled(plan) if switch_to else None
    console = Console(highlight=False)
    if as_json:
        told = {
            "live": plan.live.model_dump(), "built": plan.built and plan.built.model_dump(), "steps": steps,
            "seconds": seconds,
        }  # fmt: skip
        console.file.write(orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")
        return
    for what, step in steps.items():
        console.print(f"{what}: {step['count']:,} in {step['seconds']} s ({step['per_second']:,}/s)")
    if discard:
        console.print("discarded; the live epoch is as it was")
    elif switch_to:
        console.print("switched: start the workers again, if nothing does that for you")
        if cache is not None:
            console.print(cache)
    else:
        console.print(
            f"built beside the live epoch in {seconds} s. Next: journey {kind} --switch, or journey {kind} --discard"
        )


def _refilled(plan: epochs.Plan) -> str | None:
    """Fill the read model with the state that is live now; return what to say of it."""
    settings = load().at(plan.live)
    if not settings.redis_url:
        return None
    try:
        return f"the read model shows {asyncio.run(rebuild_cache(settings)):,} customers"
    except ReadModelError:
        return "Redis does not answer: run `journey cache rebuild` when it does"


def live(
    wait: Annotated[float, typer.Option(help="Seconds to wait for ingest.", min=0)] = 60.0,
    learn_wait: Annotated[
        float, typer.Option(help="Seconds to wait for the models, if a worker learns; 0: go on without.", min=0)
    ] = 1800.0,
    as_json: Json = False,
) -> None:
    """End the load of a past: from now on the journal runs on the wall clock, for ever.

    Waits until the past is taken and learned.

    Example: journey go-live
    """
    console = Console(highlight=False)
    told = Console(stderr=True, highlight=False)

    def tell(left: int) -> None:
        told.print(f"the models have {left:,} samples left to learn")

    settings = asyncio.run(epochs.live(load()))
    learned = partial(until_learned, settings, learn_wait, tell) if learn_wait else None
    changed = asyncio.run(go_live(settings, wait, learned))
    if as_json:
        console.file.write(orjson.dumps({"clock": "wall", "changed": changed}).decode() + "\n")
    elif changed:
        console.print("live: the journal runs on the wall clock, and journeys run from now on")
    else:
        console.print("it is live already: the journal runs on the wall clock")


@ingest_app.command("accept-hole")
def accept_hole(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only show what is missing.")] = False,
    as_json: Json = False,
) -> None:
    """Go on behind raw records that retention deleted before ingest had read them. They are lost; all else goes on.

    Example: journey ingest accept-hole --yes
    """
    found = asyncio.run(holes.accept(asyncio.run(epochs.live(load())), do_it=yes))
    console = Console(highlight=False)
    if as_json:
        told = {"accepted": yes, "holes": [hole._asdict() for hole in found]}
        console.file.write(orjson.dumps(told).decode() + "\n")
    elif not found:
        console.print("no hole: nothing was deleted that ingest had not read")
    else:
        for hole in found:
            console.print(f"{hole.topic}/{hole.partition}: {hole.lost:,} records from {hole.begin} on are gone")
        console.print("accepted: start the worker" if yes else "to go on behind them: journey ingest accept-hole --yes")
    if found and not yes:
        raise typer.Exit(1)

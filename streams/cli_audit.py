"""Audits for the operator: journey audit segments, rules, churn."""

from __future__ import annotations

import asyncio
import logging
from math import isnan
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from journey.models.baskets import Pairs
from journey.models.rules import rules as rules_of
from journey.samples import SCHEMAS
from journey.triggers import rfc3339
from streams import audits, epochs
from streams.pictures import reliability, rules_map, segment_map
from streams.settings import Settings, load

WIDTH: Final = 80
ROWS: Final = 5000
BASKETS: Final = 15_000
SHOWN: Final = 10

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]
Picture = Annotated[Path | None, typer.Option(help="Where to write the picture (SVG).", dir_okay=False)]

audit_app = typer.Typer(no_args_is_help=True, help="What batch libraries find in the samples; needs the extra `audit`.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(audit_app, name="audit")


def _settings() -> Settings:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say is said by our own errors
    return asyncio.run(epochs.live(load()))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def plain(value: Any) -> Any:
    """Return an audit as JSON has it: named tuples are objects, NaN is null.

    >>> plain([audits.Figure(0.5)])
    [{'value': 0.5, 'low': None, 'high': None}]
    """
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, dict):
        return {str(name): plain(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [plain(content) for content in value]
    return None if isinstance(value, float) and isnan(value) else value


def _tell(value: Any) -> None:
    Console().file.write(orjson.dumps(plain(value)).decode() + "\n")


def _drawn(path: Path | None, svg: str, console: Console) -> None:
    if path is not None:
        path.write_text(svg, encoding="utf-8")
        console.print(f"written: {path}", soft_wrap=True, markup=False)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    return table


@audit_app.command()
def segments(
    rows: Annotated[int, typer.Option(help="The newest so many samples.", min=audits.LEAST_ROWS)] = ROWS,
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """Look at the segments beside those of k-means, a hierarchy, DBSCAN and HDBSCAN; propose how many to have.

    Example: journey audit segments --picture segments.svg
    """
    settings = _settings()
    samples = asyncio.run(audits.read_samples(settings, "segments", rows))
    payload = asyncio.run(audits.newest_payload(settings, "segments"))
    today = None if payload is None else audits.centres_of(payload)
    found = audits.audit_segments([sample["x"] for sample in samples], SCHEMAS[samples[-1]["schema"]], today)
    console = _console()
    if as_json:
        drawn = {"points", "labels", "marks", "names"}
        _tell({name: value for name, value in found._asdict().items() if name not in drawn})
    else:
        show_segments(console, found)
    _drawn(picture, segment_map("Segments", found), Console(stderr=True, highlight=False))


@audit_app.command()
def rules(
    baskets: Annotated[int, typer.Option(help="The newest so many orders.", min=audits.LEAST_ROWS)] = BASKETS,
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """Count the newest orders one by one, as the learner does, and compare with FP-growth; exit 1 when rules differ.

    Example: journey audit rules --picture rules.svg
    """
    samples = asyncio.run(audits.read_samples(_settings(), "recs", baskets))
    items = [sorted({item[0] for item in sample["items"]}) for sample in samples]
    found = audits.audit_rules(items, streamed(items))
    console = _console()
    if as_json:
        _tell(found._asdict() | {"same": found.same})
    else:
        show_rules(console, found)
    _drawn(picture, rules_map("Association rules", found), Console(stderr=True, highlight=False))
    if not found.same:
        raise typer.Exit(1)


@audit_app.command()
def churn(
    slot: Annotated[Literal["churn", "intent"], typer.Option(help="Which probability.")] = "churn",
    picture: Picture = None,
    as_json: Json = False,
) -> None:
    """Compare the model in force with logistic regression, a linear SVM and forests fitted on the first half.

    Example: journey audit churn --slot intent --picture reliability.svg
    """
    found = audits.audit_scores(asyncio.run(audits.read_samples(_settings(), slot)))
    console = _console()
    if as_json:
        _tell(found)
    else:
        show_scores(console, slot, found)
    _drawn(
        picture,
        reliability(f"What was said and what happened: {slot}", found.models),
        Console(stderr=True, highlight=False),
    )


def streamed(baskets: list[list[str]]) -> list[tuple[str, str, float, float, float]]:
    """Return the rules that the learner's own counting finds in these baskets."""
    pairs = Pairs()
    for basket in baskets:
        pairs.learn(basket)
    return [(rule.left, rule.right, rule.support, rule.confidence, rule.lift) for rule in rules_of(pairs)]


def show_segments(console: Console, found: audits.SegmentsAudit) -> None:
    """Print an audit of the segments for a person, in 80 columns."""
    console.print(f"{found.rows:,} rows. How far two halves of them agree about k segments (1: fully):")
    console.print("  " + "  ".join(f"{k}: {ari:.2f}" for k, ari in found.agreement.items()))
    is_stable = found.agreement[found.proposed] >= audits.STABLE
    reason = f"the most with {audits.STABLE} or more" if is_stable else f"the best; none has {audits.STABLE}"
    console.print(f"Proposed: {found.proposed} segments, {reason}.")
    if found.today is None:
        console.print("No segments are learned yet.")
    else:
        console.print(
            f"Today's centres: {found.excess:.3f} of the sum of squares of batch k-means with as many; "
            f"agreement with it {found.ari:.2f}"
        )
    console.print()
    table = _table("method", "found", "noise", "as today")
    for one in (*([found.today] if found.today else []), *found.proposals):
        ari = "-" if isnan(one.ari) else f"{one.ari:.2f}"
        table.add_row(one.method, str(one.clusters), f"{one.noise:.1%}", ari)
    console.print(table)
    for one in (*([found.today] if found.today else []), found.proposals[0]):
        console.print(f"\n{one.method}: what stands out in each, and its share", markup=False)
        for name, share in one.segments:
            console.print(f"  {share:6.1%}  {name}", markup=False)


def show_rules(console: Console, found: audits.RulesAudit) -> None:
    """Print an audit of the rules for a person, in 80 columns."""
    console.print(f"{found.baskets:,} orders, {found.items:,} items: {len(found.found):,} rules by FP-growth")
    if found.same:
        console.print(f"The stream finds the same; largest difference {found.difference:.0e}")
    else:
        console.print(
            f"[red]The stream differs[/]: {len(found.missing):,} missing, {len(found.surplus):,} surplus, "
            f"largest difference {found.difference:.1e}"
        )
    lists: list[tuple[str, list[tuple[str, str, audits.Rule | audits.Triple]]]] = [
        ("missing in the stream", [(rule.left, rule.right, rule) for rule in found.missing]),
        ("in the stream alone", [(rule.left, rule.right, rule) for rule in found.surplus]),
        ("highest lift", [(rule.left, rule.right, rule) for rule in found.found]),
        ("triples (audit only)", [(" + ".join(one.left), one.right, one) for one in found.triples]),
    ]
    for title, rules in lists:
        if not rules:
            continue
        console.print(f"\n{title}: {len(rules):,}")
        table = _table("who buys", "also buys", "support", "confidence", "lift")
        table.columns[1].justify = "left"
        for left, right, rule in rules[:SHOWN]:
            figures = f"{rule.support:.4f}", f"{rule.confidence:.3f}", f"{rule.lift:.2f}"
            table.add_row(escape(left), escape(right), *figures)
        console.print(table)


def show_scores(console: Console, slot: str, found: audits.ScoresAudit) -> None:
    """Print an audit of probabilities for a person, in 80 columns."""
    console.print(
        f"{slot}: {found.rows:,} rows scored after {rfc3339(found.cut)}, {found.happened:,} of them positive; "
        f"batch models learned {found.learned:,} labels known by then."
    )
    if found.abstained:
        console.print(f"{found.abstained:,} rows are not counted: the model in force said nothing.")
    console.print()
    table = _table("model", "AUC", "log-loss", "ECE")
    table.columns[0].no_wrap = True
    for model in found.models:
        table.add_row(
            model.name, *(figure.shown(3).replace("0.", ".") for figure in (model.auc, model.log_loss, model.ece))
        )
    console.print(table)
    console.print("In brackets: 95 % by bootstrap over days or hours. No batch model is ever in force by this.")

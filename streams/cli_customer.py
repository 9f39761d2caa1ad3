"""What `journey customer` prints: one customer for a person, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from journey.features import CATALOGUE

# of the customer, by slot, where the document does not tell which of both was too little
NEEDED: Final = {"spend": "; it takes two orders, the last within 60 days"}
WIDTH: Final = 80
SMALL: Final = 0.1  # below it a third digit is told
# slot: its name, and what its value says
SCORES: Final = {
    "churn": ("churn", "no order in the next 30 days"),
    "intent": ("intent", "an order later in this visit"),
    "clv": ("lifetime value", "in the next 39 weeks"),
    "spend": ("spend", "in the next 30 days"),
}


def show(console: Console, shown: Mapping[str, Any], where: str, explanations: Mapping[str, Any] | None) -> None:
    """Print a document; ``explanations`` of its scores are None where the record, from which they come, is not read."""
    stage = shown["stage"]
    console.print(
        f"[bold]{escape(shown['customer'])}[/]  stage [cyan]{stage['name']}[/] ({stage['reason']}, "
        f"since {stage['since'][:10]})  last seen {shown['last_seen_at'][:16]}", soft_wrap=True,
    )  # fmt: skip
    for line in (*known(shown), *learned(shown, explanations)):
        console.print(escape(line), soft_wrap=True)
    table = Table("feature", "value", "unit", box=None, pad_edge=False)
    for feature, value in shown["features"].items():
        if value is not None:
            table.add_row(feature, f"{value:,}" if isinstance(value, int | float) else value, CATALOGUE[feature].unit)
    console.print(table)
    at = shown["as_of"]
    console.print(f"[dim]as of journal partition {at['partition']}, position {at['position']}, from {where}[/]")


def known(shown: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a customer has told and done, in lines of at most 80 characters."""
    if shown["anonymous_ids"]:
        yield from _wrapped(f"also known as {', '.join(shown['anonymous_ids'])}")
    for title, told in (("traits", shown["traits"]), ("consent", shown["consent"])):
        if told:
            yield from _wrapped(f"{title}: " + ", ".join(f"{key}={value}" for key, value in told.items()))
    if shown["cart"] and shown["cart"]["items"]:
        lines = ", ".join(f"{line['quantity']} x {line['item_id']}" for line in shown["cart"]["items"])
        yield from _wrapped(f"cart {shown['cart']['id']}: {lines}")
    for run in shown["runs"]:
        yield from _wrapped(f"in journey {run['journey']} since {run['entered_at']}")


def learned(shown: Mapping[str, Any], explanations: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what the models and the configuration make of a customer, in lines of at most 80 characters."""
    if shown["segments"]:
        yield from _wrapped(f"segments: {', '.join(shown['segments'])}")
    if shown["cluster"] is not None:
        yield from _wrapped(f"behaves like: {shown['cluster']} ({_cluster(shown['cluster_evidence'])})")
    for slot, score in shown["scores"].items():
        told = (explanations or {}).get(slot)
        yield from _wrapped(_score(slot, score, told))
        if told is not None:
            for line in filter(None, (*told["text"].split("; "), told.get("alike"))):
                yield from _wrapped(line, "  ")
    is_scored = any(shown["scores"].get(slot, {}).get("value") is not None for slot in ("churn", "intent"))
    if explanations is None and is_scored:
        yield from _wrapped(f"why: journey customer {shown['customer']} --from table", "  ")
    if shown["recommendations"]:
        yield "to recommend:"
        for one in shown["recommendations"]:
            yield from _wrapped(f"{one['item_id']}  {one['text']}", "  ")


def _cluster(evidence: Mapping[str, Any] | None) -> str:
    if evidence is None:
        return "it is not told why"
    by = f"segments, version {evidence['model_version']}" if evidence["model_version"] else "described, not learned"
    return f"{by}, since {evidence['since'][:10]}"


def _score(slot: str, score: Mapping[str, Any], told: Mapping[str, Any] | None) -> str:
    """Return a score with its evidence, or why there is none."""
    name, meaning = SCORES.get(slot, (slot, ""))
    version, labels = score.get("model_version"), score.get("labels") or 0
    if score["value"] is None:
        why = f"{labels:,} {_labels(slot, labels)}{NEEDED.get(slot, '')}" if version else "no model is in force"
        return f"{name}: not enough evidence ({why})"
    value = f"{score['value']:,.{2 if score['value'] >= SMALL else 3}f}"
    if slot == "clv":
        alive = "" if score.get("alive") is None else f", with a chance of {score['alive']:.2f} for any"
        meaning += f", {score['orders']:,.1f} orders{alive}"
    model = (told or {}).get("model") or f"version {version}"
    by = f", by {score['by']}" if score.get("by") else ""
    return f"{name} {value}: {meaning} ({model}{by}, {labels:,} {_labels(slot, labels)})"


def _labels(slot: str, count: int) -> str:
    noun = "buyer" if slot == "clv" else "label"
    return noun if count == 1 else f"{noun}s"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False
    )  # fmt: skip

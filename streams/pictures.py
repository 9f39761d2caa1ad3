"""Pictures of the audits, as SVG: the same figures give the same bytes.

Drawn by matplotlib, which comes with the ``audit`` extra and is imported when
something is drawn. Text stays text; clouds of points are one small image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any, Final

from streams.audits import Quality, RulesAudit, SegmentsAudit, extra

COLOURS: Final = ("#0b6e99", "#c2410c", "#3f7d20", "#7c3aed", "#475569", "#b58900", "#d33682", "#2aa198")
SIZE: Final = (7.6, 4.6)
MOST_POINTS: Final = 3000


class _Canvas:
    """One pair of axes, and afterwards their SVG."""

    def __init__(self, figure: Any) -> None:
        self._figure = figure
        self.axes = figure.add_subplot()

    def svg(self) -> str:
        held = StringIO()
        self._figure.savefig(held, format="svg", metadata={"Date": None, "Creator": None}, dpi=110)
        return "\n".join(line.rstrip() for line in held.getvalue().splitlines()) + "\n"


@contextmanager
def _canvas(title: str, x_name: str, y_name: str) -> Iterator[_Canvas]:
    with extra():
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    settings: Any = {
        "svg.hashsalt": "journey", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9.0,
        "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    with mpl.rc_context(settings):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        canvas = _Canvas(figure)
        canvas.axes.set_title(title, loc="left")
        canvas.axes.set_xlabel(x_name)
        canvas.axes.set_ylabel(y_name)
        yield canvas


def reliability(title: str, models: Sequence[Quality]) -> str:
    """Return a diagram of what was said against what happened, ten bins a model; on the diagonal both are equal."""
    with _canvas(title, "mean score of the bin", "share that happened") as canvas:
        most = max((max(said, was) for model in models for said, was, _ in model.reliability), default=1.0)
        canvas.axes.plot([0, most], [0, most], color="#999", linewidth=1, linestyle="--", zorder=1)
        for number, model in enumerate(models):
            said, was, _ = zip(*model.reliability, strict=True)
            colour = COLOURS[number % len(COLOURS)]
            label = f"{model.name} (ECE {model.ece.value:.3f})"
            canvas.axes.plot(said, was, marker="o", markersize=4, linewidth=1.5, color=colour, label=label)
        canvas.axes.legend(frameon=False, loc="upper left")
        return canvas.svg()


def segment_map(title: str, audit: SegmentsAudit) -> str:
    """Return the rows in the plane in which they differ most, coloured by segment, each centre with its name."""
    with _canvas(title, "first principal component", "second") as canvas:
        every = max(1, -(-len(audit.points) // MOST_POINTS))
        points, labels = audit.points[::every], audit.labels[::every]
        for number in sorted(set(labels)):
            mine = [point for point, label in zip(points, labels, strict=True) if label == number]
            colour = "#bbb" if number < 0 else COLOURS[number % len(COLOURS)]
            xs, ys = zip(*mine, strict=True)
            canvas.axes.scatter(xs, ys, s=5, color=colour, alpha=0.5, linewidths=0, rasterized=True)
        for number, ((x, y), name) in enumerate(zip(audit.marks, audit.names, strict=True)):
            colour = COLOURS[number % len(COLOURS)]
            canvas.axes.plot([x], [y], marker="o", markersize=9, color=colour, markeredgecolor="black")
            box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.0}
            canvas.axes.annotate(name, (x, y), xytext=(7, 5), textcoords="offset points", bbox=box)
        return canvas.svg()


def rules_map(title: str, audit: RulesAudit) -> str:
    """Return the rules by support and confidence; the darker, the higher the lift."""
    with _canvas(title, "support", "confidence") as canvas:
        rules = sorted(audit.found, key=lambda rule: rule.lift)
        if rules:
            support, confidence, lift = zip(
                *((rule.support, rule.confidence, rule.lift) for rule in rules), strict=True
            )
            drawn = canvas.axes.scatter(support, confidence, c=lift, s=9, cmap="viridis_r", rasterized=True)
            canvas.axes.figure.colorbar(drawn, ax=canvas.axes, label="lift")
        else:
            canvas.axes.text(0.5, 0.5, "no rules", transform=canvas.axes.transAxes, ha="center")
        return canvas.svg()

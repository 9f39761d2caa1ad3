"""Line charts as SVG, without a package for it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log2, log10
from typing import Final, NamedTuple

WIDTH: Final = 760
HEIGHT: Final = 360
LEFT: Final = 80
RIGHT: Final = 130
TOP: Final = 40
BOTTOM: Final = 50
COLOURS: Final = ("#0b6e99", "#c2410c", "#3f7d20", "#7c3aed", "#475569")


class Line(NamedTuple):
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]


class _Axis:
    """Where a value lies between two pixels."""

    def __init__(self, values: Sequence[float], begin: float, end: float, base: int | None) -> None:
        self._base, self._begin, self._end = base, begin, end
        if not any(values):
            values = [1.0]  # nothing but zeros: an axis all the same
        if base is not None:
            low, high = floor(self._scaled(min(values))), ceil(self._scaled(max(values)))
            self.marks = [float(base**power) for power in range(low, high + 1)]
        else:
            step = 10 ** floor(log10(max(max(values), 1e-9)))
            step = next(part * step for part in (0.2, 0.5, 1.0, 2.0) if max(values) / (part * step) <= 6)
            low, high = 0, max(1, ceil(max(values) / step)) * step
            self.marks = [step * number for number in range(round(high / step) + 1)]
        self._low, self._high = float(low), float(max(high, low + 1e-9))

    def _scaled(self, value: float) -> float:
        if self._base is None:
            return value
        return log2(value) if self._base == 2 else log10(value)

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        part = (self._scaled(value) - self._low) / (self._high - self._low)
        return self._begin + part * (self._end - self._begin)


def chart(
    title: str, x_name: str, y_name: str, lines: Sequence[Line], *, log_x: bool = False, log_y: bool = False
) -> str:
    """Return an SVG of lines, with a name beside the end of each; ``log_x`` is to the base 2, ``log_y`` to 10."""
    across = _Axis([x for line in lines for x, _ in line.points], LEFT, WIDTH - RIGHT, 2 if log_x else None)
    up = _Axis([y for line in lines for _, y in line.points], HEIGHT - BOTTOM, TOP, 10 if log_y else None)
    middle = f"{HEIGHT / 2:.0f}"
    head = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" role="img"'
    turned = f'text-anchor="middle" transform="rotate(-90 14 {middle})"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head} aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_name)}</text>',
        f'<text x="14" y="{middle}" {turned}>{escape(y_name)}</text>',
    ]
    for mark in up.marks:
        y = up.at(mark)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_shown(mark)}</text>')
    parts += [
        f'<text x="{across.at(mark):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_shown(mark)}</text>'
        for mark in across.marks
    ]
    used: list[float] = []
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = up.at(line.points[-1][1])
        while any(abs(y - other) < 14 for other in used):
            y += 2
        used.append(y)
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y + 4:.1f}" fill="{colour}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def stacked(charts: Sequence[str]) -> str:
    """Return one SVG of some charts, one below the other."""
    inner = "".join(
        chart.replace("<svg ", f'<svg y="{HEIGHT * number}" width="{WIDTH}" height="{HEIGHT}" ', 1)
        for number, chart in enumerate(charts)
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT * len(charts)}">\n{inner}</svg>\n'


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:g}"

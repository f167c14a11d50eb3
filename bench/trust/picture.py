"""A picture of what the gate's threshold trades: other questions that stay against rephrases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bench.trust.facts import Fact

Triple = tuple[float, float, float]  # threshold, share of rephrases, share of unchanged answers
Thresholds = Callable[[Sequence[Fact]], Sequence[Triple]]  # measures them, for these facts

WIDTH, HEIGHT = 640, 480  # pixels
LEFT, RIGHT, TOP, BOTTOM = 80, 24, 48, 64  # pixels around the plot
WANTED_REPHRASED, WANTED_UNCHANGED = 0.90, 0.95
STEPS = 5  # between the marks of an axis
GREY, BLUE, GREEN = "#888888", "#1f5fa8", "#2e8b57"
STYLE = "font-family:sans-serif;font-size:12px;fill:#222222"


def draw(triples: Sequence[Triple], title: str = "The gate's threshold") -> str:
    """An SVG: rephrased share to the right, unchanged share upwards, a mark a threshold.

    Raises ValueError without a triple. Axes begin at a round share below the lowest one.
    """
    if not triples:
        raise ValueError("there is nothing to draw")
    ordered = sorted(triples)
    plot = _Plot(
        _axis_begin([*(each[1] for each in ordered), WANTED_REPHRASED]),
        _axis_begin([*(each[2] for each in ordered), WANTED_UNCHANGED]),
    )
    points = [(plot.x(rephrased), plot.y(unchanged)) for _, rephrased, unchanged in ordered]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    marks = []
    for (x, y), (threshold, _, _) in zip(points, ordered, strict=True):
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{BLUE}"/>')
        marks.append(_text(x + 7, y - 7, f"{threshold:g}"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
            f' viewBox="0 0 {WIDTH} {HEIGHT}" style="{STYLE}">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            _text(LEFT, TOP - 20, title),
            *plot.axes(),
            *plot.wanted(),
            f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="2"/>',
            *marks,
            "</svg>\n",
        ]
    )


class _Plot:
    """Where shares stand in the picture."""

    def __init__(self, x_begin: float, y_begin: float) -> None:
        self._x_begin, self._y_begin = x_begin, y_begin
        self._right, self._bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(self, share: float) -> float:
        return LEFT + (share - self._x_begin) / (1 - self._x_begin) * (self._right - LEFT)

    def y(self, share: float) -> float:
        return self._bottom - (share - self._y_begin) / (1 - self._y_begin) * (self._bottom - TOP)

    def axes(self) -> list[str]:
        found = []
        for step in range(STEPS + 1):
            across = self._x_begin + (1 - self._x_begin) * step / STEPS
            up = self._y_begin + (1 - self._y_begin) * step / STEPS
            found.append(_text(self.x(across), self._bottom + 18, f"{across:.2f}", "middle"))
            found.append(_text(LEFT - 8, self.y(up) + 4, f"{up:.2f}", "end"))
        found.append(_line(LEFT, self._bottom, self._right, self._bottom))
        found.append(_line(LEFT, TOP, LEFT, self._bottom))
        middle = (TOP + self._bottom) / 2
        below = "rephrased questions answered with the target, share"
        beside = "other questions about the subject unchanged, share"
        found.append(_text((LEFT + self._right) / 2, HEIGHT - 18, below, "middle"))
        turned = f'transform="rotate(-90 20 {middle:g})" '
        found.append(_text(20, middle, beside, "middle", turned))
        return found

    def wanted(self) -> list[str]:
        """Broken lines at the two targets."""
        x, y = self.x(WANTED_REPHRASED), self.y(WANTED_UNCHANGED)
        broken = f' stroke-dasharray="4 4" stroke="{GREEN}"'
        return [
            _line(x, TOP, x, self._bottom, broken),
            _line(LEFT, y, self._right, y, broken),
            _text(x + 4, self._bottom - 6, f"target {WANTED_REPHRASED:.2f}"),
            _text(LEFT + 4, y - 4, f"target {WANTED_UNCHANGED:.2f}"),
        ]


def _axis_begin(shares: Sequence[float]) -> float:
    """The tenth below the lowest share; never so high that the axis has no length."""
    return min(math.floor(min(shares) * 10 + 1e-9) / 10, 0.9)


def _line(x1: float, y1: float, x2: float, y2: float, more: str = f' stroke="{GREY}"') -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{more}/>'


def _text(x: float, y: float, words: str, anchor: str = "start", more: str = "") -> str:
    escaped = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escaped}</text>'

"""A scatter plot as SVG text: points with names in, a drawing that needs nothing else out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 150, 20, 55
_STEPS = 5
_MARK, _ASIDE, _LINE, _LETTER = 5, 9, 13, 6.5  # pixels: a point, its name's place and size


class Point(NamedTuple):
    """A named point with its range either way, and whether it is to stand out."""

    name: str
    x: float
    y: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    marked: bool


def scatter(points: Sequence[Point], *, x_label: str, y_label: str) -> str:
    """Draw points with their ranges; marked ones are filled."""
    x_axis = _Axis([v for p in points for v in (p.x, *p.x_range)], _LEFT, WIDTH - _RIGHT)
    y_axis = _Axis([v for p in points for v in (p.y, *p.y_range)], HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(y_label)} against {escape(x_label)}" font-family="sans-serif" '
        'font-size="12">'
    ]
    for value in x_axis.ticks:
        x = x_axis.place(value)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}" stroke="#e4e4e4"/>')
        parts.append(_text(x, HEIGHT - _BOTTOM + 18, f"{value:.3g}", "middle"))
    for value in y_axis.ticks:
        y = y_axis.place(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="#e4e4e4"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{value:.3g}", "end"))
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 12, x_label, "middle"))
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text transform="translate(16 {middle:.1f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    places = [(x_axis.place(point.x), y_axis.place(point.y)) for point in points]
    lines = _label_lines([(x, y, point.name) for (x, y), point in zip(places, points, strict=True)])
    for point, (x, y), line in zip(points, places, lines, strict=True):
        parts += _draw(point, x_axis, y_axis)
        if abs(line - y) > 2 * _LINE:  # too far to be seen to belong together
            parts.append(f'<path d="M{x:.1f} {y:.1f}L{x + _ASIDE:.1f} {line:.1f}" stroke="#aaa"/>')
        parts.append(_text(x + _ASIDE, line, point.name, "start", _colour(point)))
    return "\n".join([*parts, "</svg>"])


def _label_lines(points: Sequence[tuple[float, float, str]]) -> list[float]:
    """Choose the height of every name beside its point: the nearest where it covers no other."""
    boxes = [(x - _MARK, x + _MARK, y) for x, y, _ in points]
    lines = []
    for x, y, name in points:
        left, right = x + _ASIDE, x + _ASIDE + _LETTER * len(name)

        def is_free(line: float, left: float = left, right: float = right) -> bool:
            middle = line - _LINE / 3
            return not any(
                abs(middle - other) < _LINE and left < stop and start < right
                for start, stop, other in boxes
            )

        steps = sorted(range(-len(points), len(points) + 1), key=lambda step: (abs(step), step))
        heights = [y - 6 + step * _LINE for step in steps]
        line = next((height for height in heights if is_free(height)), heights[0])
        lines.append(line)
        boxes.append((left, right, line - _LINE / 3))
    return lines


class _Axis:
    """Where values stand between two ends, with a little room beyond the outermost."""

    def __init__(self, values: Sequence[float], start: float, stop: float) -> None:
        low, high = min(values), max(values)
        room = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
        self._low, self._high = low - room, high + room
        self._start, self._stop = start, stop

    @property
    def ticks(self) -> list[float]:
        """Multiples of 1, 2 or 5 times a power of ten, about `_STEPS` of them."""
        wanted = (self._high - self._low) / _STEPS
        power = 10.0 ** math.floor(math.log10(wanted))
        step = min((1.0, 2.0, 5.0, 10.0), key=lambda factor: abs(factor * power - wanted)) * power
        first, last = math.ceil(self._low / step), math.floor(self._high / step)
        return [number * step for number in range(first, last + 1)]

    def place(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return self._start + share * (self._stop - self._start)


def _draw(point: Point, x_axis: _Axis, y_axis: _Axis) -> list[str]:
    x, y = x_axis.place(point.x), y_axis.place(point.y)
    left, right = map(x_axis.place, point.x_range)
    low, high = map(y_axis.place, point.y_range)
    colour = _colour(point)
    fill = colour if point.marked else "white"
    return [
        f'<path d="M{left:.1f} {y:.1f}H{right:.1f}M{x:.1f} {low:.1f}V{high:.1f}" '
        f'stroke="{colour}"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_MARK}" fill="{fill}" stroke="{colour}" '
        'stroke-width="1.5"/>',
    ]


def _colour(point: Point) -> str:
    return "#b3261e" if point.marked else "#5f6b7a"


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(text)}</text>"
    )

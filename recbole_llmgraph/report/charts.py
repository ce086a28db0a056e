"""Charts of the site as plain numbers: where points and ticks stand. Templates draw them as SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recbole_llmgraph.report.columns import amount

WIDTH, HEIGHT = 440, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 425, 18, 196
#: Points up to which names are written beside them; beyond, they are told when a point is touched.
NAMED = 60
#: Width of a letter and height of a line, in pixels, a little generous.
LETTER, LINE = 6.3, 11


@dataclass(frozen=True)
class Point:
    """One run or row: its numbers, what it is called and where it leads."""

    x: float
    y: float
    name: str
    href: str
    second: bool = False
    """Drawn in the second colour."""


@dataclass(frozen=True)
class Chart:
    """A chart, placed.

    Attributes:
        points: dictionaries `x y name label label_x label_y anchor told href second` in pixels.
        curves: paths of lines through points.
        xticks, yticks: `at` in pixels and `text`.
    """

    title: str
    caption: str
    xtitle: str
    ytitle: str
    points: list[dict[str, Any]]
    xticks: list[dict[str, Any]]
    yticks: list[dict[str, Any]]
    curves: list[str] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


def chart(
    points: Sequence[Point],
    title: str,
    titles: tuple[str, str],
    *,
    caption: str = "",
    log_x: bool = False,
    lines: bool = False,
    form: Callable[[float], str] = "{:.4f}".format,
) -> Chart | None:
    """Place points on a plane; None for fewer than two that have numbers.

    Args:
        points: in the order of a line, where there is one.
        title, caption: above and below.
        titles: of the axes.
        log_x: logarithmic x axis; points at or below zero are left out.
        lines: join the points.
        form: how y values are written.
    """
    known = [p for p in points if np.isfinite([p.x, p.y]).all() and (p.x > 0 or not log_x)]
    if len(known) < 2:
        return None
    xs = np.array([math.log10(p.x) if log_x else p.x for p in known])
    ys = np.array([p.y for p in known])
    place_x, place_y = _scale(xs, LEFT + 12, RIGHT - 12), _scale(ys, BOTTOM - 10, TOP + 10)
    placed = [
        _point(p, place_x(x), place_y(p.y), f"{p.name}: {form(p.y)} at {amount(p.x)}")
        for p, x in zip(known, xs, strict=True)
    ]
    if not lines and len(placed) <= NAMED:
        _name(placed)
    whole = all(float(p.x).is_integer() for p in known)
    xticks = [
        {"at": round(place_x(x), 1), "text": amount(10**x if log_x else x)}
        for x in _ticks(xs, 4, whole=whole and not log_x)
    ]
    yticks = [{"at": round(place_y(y), 1), "text": form(y)} for y in _ticks(ys, 4)]
    path = "M" + "L".join(f"{p['x']} {p['y']}" for p in placed)
    return Chart(title, caption, *titles, placed, xticks, yticks, [path] if lines else [])


def _point(point: Point, x: float, y: float, told: str) -> dict[str, Any]:
    """A point whose name is told when it is touched."""
    return {
        "x": round(x, 1),
        "y": round(y, 1),
        "name": point.name,
        "label": "",
        "label_x": 0.0,
        "label_y": round(y + 4, 1),
        "anchor": "start",
        "told": told,
        "href": point.href,
        "second": point.second,
    }


def _name(points: list[dict[str, Any]]) -> None:
    """Write names beside points, left or right, where they meet no other name and no other point."""
    taken: list[tuple[float, float, float]] = [(p["x"] - 5, p["x"] + 5, p["y"]) for p in points]
    for place, point in enumerate(points):
        width = LETTER * len(point["name"])
        for anchor, left in (("start", point["x"] + 8), ("end", point["x"] - 8 - width)):
            box = (left, left + width, point["y"])
            others = taken[:place] + taken[place + 1 :]
            if box[0] >= LEFT and box[1] <= RIGHT and not any(_meet(box, other) for other in others):
                edge = left if anchor == "start" else left + width
                point |= {"label": point["name"], "label_x": round(edge, 1), "anchor": anchor}
                taken.append(box)
                break


def _meet(a: tuple[float, float, float], b: tuple[float, float, float]) -> bool:
    """Whether two stretches of a line of text overlap: from, to, height."""
    return a[0] < b[1] and b[0] < a[1] and abs(a[2] - b[2]) < LINE


def _scale(values: np.ndarray, first: float, last: float) -> Callable[[float], float]:
    """From values to pixels; a single value stands in the middle."""
    low, high = float(values.min()), float(values.max())
    if high == low:
        return lambda value: (first + last) / 2
    return lambda value: first + (value - low) / (high - low) * (last - first)


def _ticks(values: np.ndarray, count: int, *, whole: bool = False) -> list[float]:
    """Evenly spaced from the least to the greatest; on whole numbers where all values are whole."""
    spread = np.linspace(float(values.min()), float(values.max()), count)
    return [float(value) for value in np.unique(np.rint(spread) if whole else spread)]

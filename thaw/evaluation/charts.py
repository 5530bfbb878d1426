"""Draw charts as plain SVG whose colours are classes of the style sheet, so that they follow light, dark and print.

A chart has an accessible name and no more text than one reads at the width of a phone; the page has its numbers in a
table too. Names may be anybody's and are escaped.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from markupsafe import Markup

WIDTH, HEIGHT = 440, 260
LONGEST = 16  # characters of a name on a map
LEFT, RIGHT, TOP, BOTTOM = 46, 22, 24, 38  # margins

Point = tuple[float, float]


@dataclass
class Series:
    """A line of a chart."""

    name: str
    points: Sequence[Point]  # a value that is not finite leaves a gap
    style: str  # a class of the style sheet: train, val, phase1, phase2 …
    dots: bool = True


@dataclass
class Axes:
    """Where the values of a chart lie."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str
    percent_x: bool = False
    percent_y: bool = False
    x_ticks: Sequence[float] | None = None
    x_names: Mapping[float, str] | None = None

    def place(self, x: float, y: float) -> Point:
        """Return the place of values in the picture, rounded to a tenth of a unit."""
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + across * wide, 1), round(HEIGHT - BOTTOM - up * high, 1)


def ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Return round numbers within a range, ``most`` at most."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / most))
    while span / step > most:
        step *= 2.5 if f"{step:e}"[0] == "2" else 2
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) + 0.0 for number in range(first, math.floor(high / step + 1e-9) + 1)]


def picture(name: str, body: Iterable[Markup], width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """Return an SVG picture with an accessible name."""
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, name)
    return head + Markup("").join(body) + Markup("</svg>")


def frame(axes: Axes) -> list[Markup]:
    """Return the grid, the ticks and the names of both axes."""
    bottom, left = HEIGHT - BOTTOM, LEFT
    parts = []
    for value in ticks(*axes.y):
        _, y = axes.place(axes.x[0], value)
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(left, y, WIDTH - RIGHT))
        parts.append(
            Markup('<text class="tick end" x="{}" y="{}">{}</text>').format(
                left - 6, y + 4, _number(value, axes.percent_y)
            )
        )
    for value in ticks(*axes.x) if axes.x_ticks is None else axes.x_ticks:
        x, _ = axes.place(value, axes.y[0])
        text = axes.x_names[value] if axes.x_names else _number(value, axes.percent_x)
        parts.append(Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(x, bottom + 17, text))
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(left, bottom, WIDTH - RIGHT))
    parts.append(
        Markup('<text class="name mid" x="{}" y="{}">{}</text>').format(
            (left + WIDTH - RIGHT) / 2, HEIGHT - 4, axes.x_label
        )
    )
    parts.append(Markup('<text class="name" x="2" y="{}">{}</text>').format(TOP - 12, axes.y_label))
    return parts


def line(axes: Axes, series: Series) -> Markup:
    """Return a line, broken where a value is missing, with its dots."""
    paths, dots, pen = [], [], "M"
    for x, y in series.points:
        if not math.isfinite(y):
            pen = "M"
            continue
        across, up = axes.place(x, min(max(y, axes.y[0]), axes.y[1]))
        paths.append(f"{pen}{across} {up}")
        dots.append(f"M{across} {up}h0")  # a round cap makes a dot of it
        pen = "L"
    drawn = Markup('<path class="line {}" d="{}"/>').format(series.style, "".join(paths))
    return (
        drawn + Markup('<path class="dots {}" d="{}"/>').format(series.style, "".join(dots)) if series.dots else drawn
    )


def lines(name: str, axes: Axes, series: Sequence[Series], marks: Mapping[float, str] | None = None) -> Markup:
    """Return a chart of lines.

    Args:
        name: what the chart shows, for those who don't see it.
        marks: by place on the x axis, upright lines with a word beside them.
    """
    parts = frame(axes)
    for x, word in (marks or {}).items():
        across, _ = axes.place(x, axes.y[0])
        parts.append(Markup('<path class="mark" d="M{} {}V{}"/>').format(across, TOP, HEIGHT - BOTTOM))
        parts.append(Markup('<text class="tick" x="{}" y="{}">{}</text>').format(across + 4, TOP - 3, word))
    return picture(name, [*parts, *(line(axes, each) for each in series)])


def span(values: Iterable[float], room: float = 0.06) -> tuple[float, float]:
    """Return the range of the finite values with some room; 0 to 1 if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    more = room * ((high - low) or abs(high) or 1.0)
    return low - more, high + more


def whiskers(name: str, rows: Sequence[tuple[str, float, float, float, str]]) -> Markup:
    """Return a chart of shares with their intervals: rows of name, share, low, high and style."""
    low, high = span([value for row in rows for value in row[1:4]])
    low, high = max(low, 0.0), min(high, 1.0)
    each, left, top = 30, 132, 8
    bottom = top + each * len(rows)
    wide = WIDTH - left - 60

    def x(share: float) -> float:
        return round(left + wide * (share - low) / ((high - low) or 1), 1)

    parts = []
    for value in ticks(low, high, 5):
        parts.append(Markup('<path class="grid" d="M{} {}V{}"/>').format(x(value), top, bottom))
        parts.append(
            Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(
                x(value), bottom + 15, _number(value, percent=True)
            )
        )
    for number, (label, share, least, most, style) in enumerate(rows):
        y = top + each * number + each / 2
        parts.append(Markup('<text class="tick end" x="{}" y="{}">{}</text>').format(left - 10, y + 4, label))
        parts.append(Markup('<path class="whisker {}" d="M{} {}H{}"/>').format(style, x(least), y, x(most)))
        parts.append(Markup('<circle class="{}" cx="{}" cy="{}" r="5"/>').format(style, x(share), y))
        parts.append(
            Markup('<text class="value" x="{}" y="{}">{}</text>').format(x(most) + 8, y + 4, f"{100 * share:.1f} %")
        )
    return picture(name, parts, height=bottom + 24)


def scatter(
    name: str,
    points: Sequence[tuple[int, int, bool, str]],
    side: int,
    named: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Markup:
    """Return a map.

    Args:
        name: of the picture.
        points: x, y from 0 to ``side``, whether it is a mistake, and what it says when pointed at.
        side: the largest coordinate.
        named: places of names, x and y.
    """
    size, edge = 420, 14

    def at(value: float) -> float:
        return round(edge + (size - 2 * edge) * value / side, 1)

    parts = [Markup('<rect class="plate" width="{}" height="{}" rx="6"/>').format(size, size)]
    right = "".join(f"M{at(x)} {round(size - at(y), 1)}h0" for x, y, wrong, _ in points if not wrong)
    parts.append(Markup('<path class="cloud" d="{}"/>').format(right))
    parts += [
        Markup('<path class="cross" d="m{} {}-4-4m0 8 8-8m0 8-4-4"><title>{}</title></path>').format(
            at(x), round(size - at(y), 1), text
        )
        for x, y, wrong, text in points
        if wrong
    ]
    for text, (x, y) in named.items():
        short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        parts.append(
            Markup('<text class="class" x="{}" y="{}">{}</text>').format(at(x), round(size - at(y) + 4, 1), short)
        )
    return picture(name, parts, size, size)


def _number(value: float, percent: bool = False) -> str:
    return f"{100 * value:g} %" if percent else f"{value:g}"

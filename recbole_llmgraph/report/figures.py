"""How all figures look, and how they are written: PDF and PNG, the same bytes for the same data.

Colours are Okabe and Ito's, which remain distinct under every common colour blindness; a curve is also
told by its marker and its dashes. No figure needs a display.
"""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recbole_llmgraph.base.files import new_file

#: Okabe and Ito, black first left out: it is the colour of text and axes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", "-", "--")
#: Colour map of heat maps: even steps of lightness, alike to every eye.
HEAT = "cividis"
#: Inches of one panel.
PANEL = (2.35, 1.9)
#: Characters of a title that an inch holds.
TITLE = 17
#: Set above each figure: the part of the data that it shows.
PART = "validation, not test"
#: Set above each figure of invented data.
MADE = "; MADE DATA to show the layout, nothing was measured"

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "axes.formatter.useoffset": False,
    "text.parse_math": False,  # a model's own names may hold $
}


@contextmanager
def style() -> Iterator[None]:
    """The house's look, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def panels(rows: int, columns: int, size: tuple[float, float] = PANEL) -> tuple[Figure, Any]:
    """A figure and its `[rows][columns]` axes. Call inside `style()`."""
    figure = Figure(figsize=(size[0] * columns, size[1] * rows + 0.35), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes


def title(figure: Figure, what: str, *, made: bool) -> None:
    """Say above the panels what is shown, of which part, and whether it was invented."""
    width = int(TITLE * figure.get_figwidth())
    lines = [*textwrap.wrap(what, width), *textwrap.wrap(f"{PART}{MADE if made else ''}", width)]
    figure.suptitle("\n".join(lines), fontsize=8)


def letter(place: int) -> str:
    """(a), (b), …, as papers count panels."""
    return f"({chr(ord('a') + place)})" if place < 26 else f"({place + 1})"


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.pdf` and `<stem>.png`, without dates or version marks. Call inside `style()`."""
    written = []
    for kind, metadata in (("pdf", {"CreationDate": None, "Producer": None, "Creator": None}),
                           ("png", {"Software": None})):  # fmt: skip
        path = stem.with_name(f"{stem.name}.{kind}")
        with new_file(path) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata)
        written.append(path)
    return written


def plain_ticks(axes: Axes, values: Sequence[Any]) -> list[float]:
    """Put a tick at every value; numbers at their place (log where they grow by factors), names in order.

    Returns:
        Places of the values.
    """
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not numbers:
        places = [float(place) for place in range(len(values))]
        axes.set_xticks(places, [str(value) for value in values])
        return places
    gaps = np.diff(sorted(values))
    if len(values) > 2 and min(values) > 0 and max(gaps) >= 3 * min(gaps):
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(list(values), [f"{value:g}" for value in values])
    return [float(value) for value in values]


def metric_name(metric: str) -> str:
    """`recall@20` → `Recall@20`, `ndcg@10` → `NDCG@10`."""
    kind, _, k = metric.partition("@")
    return f"{kind.upper() if kind in ('ndcg', 'mrr') else kind.capitalize()}@{k}"

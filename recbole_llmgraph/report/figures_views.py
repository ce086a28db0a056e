"""Density of encodings on the circle, in the plane and over the angle (GAL-Rec Fig. 4; SimGCL)."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import circstd, gaussian_kde

from recbole_llmgraph.report.figures import COLOURS, HEAT, panels, save, style

#: Points a side of the plane's grid.
GRID = 80
#: Half the plane's side.
REACH = 1.4
#: Rows of a figure of GALRec.
GAL = {"without": False, "with": True}
#: Characters in a line of a panel's title.
TITLE = 28


def draw_views(points: pd.DataFrame, stem: Path, told: str = "training pairs") -> list[Path]:
    """Write the figure: a column a view, and two rows, or four for views with and without GAL.

    Args:
        points: columns view, x, y, uniformity, and of GALRec gal.
        stem: path without suffix.
        told: what a point is, for the title.

    Returns:
        Files written, PDF and PNG.
    """
    views = list(dict.fromkeys(points["view"]))
    halves = [("", points)]
    if "gal" in points:
        halves = [(f", {name} GAL", points[points["gal"] == gal]) for name, gal in GAL.items()]
    with style():
        figure, axes = panels(2 * len(halves), len(views), (2.2, 1.7))
        for half, (name, rows) in enumerate(halves):
            for column, view in enumerate(views):
                part = rows[rows["view"] == view]
                plane, angle = axes[2 * half][column], axes[2 * half + 1][column]
                _plane(plane, part)
                title = "\n".join(textwrap.wrap(f"{view}{name}", TITLE, break_long_words=False))
                plane.set_title(f"{title}\nuniformity {part['uniformity'].iloc[0]:.2f}")
                _angle(angle, part, COLOURS[half])
        angles = [panel for row in axes[1::2] for panel in row]
        highest = max(panel.get_ylim()[1] for panel in angles)
        for panel in angles:  # one scale, so that heights can be compared
            panel.set_ylim(0, highest)
        figure.suptitle(f"t-SNE of unit encodings, put on the circle; {told}", fontsize=8)
        return save(figure, stem)


def _plane(axes: Any, part: pd.DataFrame) -> None:
    """Gaussian density in the plane."""
    line = np.linspace(-REACH, REACH, GRID)
    grid = np.stack(np.meshgrid(line, line)).reshape(2, -1)
    density = gaussian_kde(part[["x", "y"]].to_numpy().T)(grid).reshape(GRID, GRID)
    axes.imshow(density, origin="lower", extent=[-REACH, REACH, -REACH, REACH], cmap=HEAT)
    axes.set_xticks([])
    axes.set_yticks([])


def _angle(axes: Any, part: pd.DataFrame, colour: str) -> None:
    """Gaussian density of the angle; the circle is closed by a copy on either side."""
    angles = np.arctan2(part["y"].to_numpy(), part["x"].to_numpy())
    around = np.concatenate([angles - 2 * np.pi, angles, angles + 2 * np.pi])
    deviation = min(np.std(angles), circstd(angles))  # where the circle is cut must not widen a cluster
    width = deviation * len(angles) ** -0.2  # Scott's rule
    line = np.linspace(-np.pi, np.pi, 200)
    density = 3 * gaussian_kde(around, bw_method=width / np.std(around, ddof=1))(line)
    axes.fill_between(line, density, color=colour, alpha=0.4, linewidth=0)
    axes.plot(line, density, color=colour)
    axes.set_xticks([-np.pi, 0, np.pi], ["-π", "0", "π"])
    axes.set_xlabel("angle")

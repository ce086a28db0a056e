"""The picture of views: all panels, both files, the same bytes for the same points."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from recbole_llmgraph.report.figures_views import _angle, draw_views


def points() -> pd.DataFrame:
    """Made points: evenly around without contrast, on one side with it."""
    rng = np.random.default_rng(0)
    parts = []
    for gal in (False, True):
        for view in ("u0", "u1", "u2"):
            angle = rng.normal(0, 0.3, 60) if gal else rng.uniform(-np.pi, np.pi, 60)
            part = {"gal": gal, "view": view, "x": np.cos(angle), "y": np.sin(angle), "uniformity": -1.25}
            parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def test_the_same_points_give_the_same_files(tmp_path: Path) -> None:
    first = draw_views(points(), tmp_path / "one" / "views")
    again = draw_views(points(), tmp_path / "two" / "views")
    assert sorted(path.suffix for path in first) == [".pdf", ".png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_a_cluster_where_the_circle_is_cut_is_as_sharp_as_any_other() -> None:
    def highest(middle: float) -> float:
        angle = np.random.default_rng(0).normal(middle, 0.2, 200)
        _, axes = plt.subplots()
        _angle(axes, pd.DataFrame({"x": np.cos(angle), "y": np.sin(angle)}), "k")
        top = float(axes.lines[0].get_ydata().max())
        plt.close()
        return top

    assert highest(np.pi) == pytest.approx(highest(0.0), rel=0.05)

"""The picture of views: all panels, both files, the same bytes for the same points."""

from pathlib import Path

import numpy as np
import pandas as pd

from recbole_llmgraph.report.figures_views import draw_views


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

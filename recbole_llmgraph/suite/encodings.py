"""Encodings of GALRec's views, projected to the circle (GAL-Rec Fig. 4)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from recbole_llmgraph.base.progress import track
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.loss.uniformity import spread
from recbole_llmgraph.suite.cell import Cell
from recbole_llmgraph.suite.restore import restored
from recbole_llmgraph.suite.run import Runner

#: Rows encoded at once.
AT_ONCE = 256


def view_points(runner: Runner, cells: Sequence[Cell], side: str, rows: int) -> pd.DataFrame:
    """Projected encodings of the same training pairs by models with and without GAL, trained where missing.

    Args:
        runner: trains and finds.
        cells: of GALRec, on one split.
        side: `user` or `item`.
        rows: pairs drawn, at most.

    Returns:
        One row a pair, view and model: columns gal, view, x, y, and of that view cosine, uniformity.
    """
    return pd.concat([_points(runner, cell, side, rows) for cell in cells], ignore_index=True)


def _points(runner: Runner, cell: Cell, side: str, rows: int) -> pd.DataFrame:
    model, split = restored(runner, cell)
    views = [f"{side[0]}{hop}" for hop in range(3)]
    count = len(split.dataset)
    drawn = np.sort(np.random.default_rng(0).choice(count, min(rows, count), replace=False))
    parts: dict[str, list[torch.Tensor]] = {view: [] for view in views}
    for start in track(range(0, len(drawn), AT_ONCE), "views", unit="batch"):
        batch = load_batch(split.train, drawn[start : start + AT_ONCE]).to(model.device)
        for view, encodings in model.encodings(batch, views).items():
            parts[view].append(encodings.cpu())
    gal = model.options.gal
    return pd.concat([_projected(torch.cat(parts[view]), view, gal) for view in views])


def _projected(encodings: Any, view: str, gal: bool) -> pd.DataFrame:
    plane = on_circle(encodings.numpy())
    cosine, uniformity = spread(encodings)
    return pd.DataFrame(
        {
            "gal": gal,
            "view": view,
            "x": plane[:, 0],
            "y": plane[:, 1],
            "cosine": cosine,
            "uniformity": uniformity,
        }
    )


def on_circle(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows by t-SNE to the plane, then onto the circle around its middle. `[n, d] -> [n, 2]`"""
    from sklearn.manifold import TSNE

    near = min(30, (len(rows) - 1) / 3)
    plane: npt.NDArray[Any] = TSNE(2, init="pca", random_state=0, perplexity=near).fit_transform(rows)
    plane -= plane.mean(0)
    plane /= np.linalg.norm(plane, axis=1, keepdims=True).clip(1e-12)
    return plane

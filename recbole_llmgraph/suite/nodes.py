"""How the nodes of trained graph models lie: in SimGCL's picture of it, and in numbers."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import track
from recbole_llmgraph.graph.encoder import LightEncoder
from recbole_llmgraph.loss.uniformity import spread
from recbole_llmgraph.suite.cell import Cell, variant_name
from recbole_llmgraph.suite.encodings import on_circle
from recbole_llmgraph.suite.restore import restored
from recbole_llmgraph.suite.run import Runner

Side = Literal["user", "item"]


def node_points(runner: Runner, cells: Sequence[Cell], side: Side, rows: int) -> pd.DataFrame:
    """Projected users or items of trained models, the same ones of each; trained where missing.

    Args:
        runner: trains and finds.
        cells: of models with tables of users and items, on one split.
        side: whose.
        rows: users or items drawn among those with training interactions, at most.

    Returns:
        One row a node and model: columns view (the model), x, y, and of that model

        * cosine: mean over pairs of different nodes;
        * uniformity: `loss/uniformity.py`;
        * first: share of the largest of the unit rows' squared singular values, 1 where all lie on a line;
        * own, others: mean cosine of a node's first view with its own second view and with those of the
          others, drawn once as in training; empty for models without views.

    Raises:
        UserError: for a model without such tables, or two cells of one name.
    """
    labels = [_label(cell) for cell in cells]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UserError(f"{twice[0]} is named twice; name every model and every --with once")
    named = track(list(zip(cells, labels, strict=True)), "models", unit="model")
    return pd.concat([_points(runner, cell, label, side, rows) for cell, label in named], ignore_index=True)


def _label(cell: Cell) -> str:
    variant = variant_name(cell)
    return f"{cell.model.name} ({variant})" if variant else cell.model.name


def _points(runner: Runner, cell: Cell, label: str, side: Side, rows: int) -> pd.DataFrame:
    if not hasattr(cell.model_class, f"{side}_table"):
        raise UserError(f"{cell.model.name} keeps no table of {side}s; views draw graph models and GALRec")
    model, split = restored(runner, cell)
    field = getattr(split.dataset, "uid_field" if side == "user" else "iid_field")
    met = np.unique(split.dataset.inter_feat[field].numpy())
    drawn = np.sort(np.random.default_rng(0).choice(met, min(rows, len(met)), replace=False))
    ids = torch.from_numpy(drawn)
    table = getattr(model, f"{side}_table")().cpu()[ids]
    unit = F.normalize(table.double(), dim=1)
    values = torch.linalg.svdvals(unit).square()
    cosine, uniformity = spread(table)
    own, others = _agreement(model, ids + (model.n_users if side == "item" else 0))
    plane = on_circle(unit.numpy())
    facts = {"cosine": cosine, "uniformity": uniformity, "first": float(values[0] / values.sum())}
    return pd.DataFrame(
        {"view": label, "x": plane[:, 0], "y": plane[:, 1], **facts, "own": own, "others": others}
    )


@torch.no_grad()
def _agreement(model: Any, nodes: torch.Tensor) -> tuple[float, float]:
    """Mean cosine of nodes' two views, of one node and of two."""
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, LightEncoder):
        return float("nan"), float("nan")
    torch.manual_seed(0)
    views = encoder(model.nodes.weight)
    if views.anchor is None or views.other is None:
        return float("nan"), float("nan")
    anchor, other = (F.normalize(view[nodes].double(), dim=1) for view in (views.anchor, views.other))
    cosines = anchor @ other.T
    own = cosines.diagonal()
    return float(own.mean()), float((cosines.sum() - own.sum()) / (cosines.numel() - len(own)))

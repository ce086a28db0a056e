"""`benchmarks/views.py`: encodings of GALRec's views, projected and drawn (GAL-Rec Fig. 4)."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import new_file
from recbole_llmgraph.base.progress import say, track
from recbole_llmgraph.host.batches import load_batch
from recbole_llmgraph.loss.uniformity import spread
from recbole_llmgraph.report.figures_views import draw_views
from recbole_llmgraph.suite.command import guarded
from recbole_llmgraph.suite.many import house_of, plan
from recbole_llmgraph.suite.options import Parser, add_common, seeds
from recbole_llmgraph.suite.restore import restored
from recbole_llmgraph.suite.run import Runner

#: Rows encoded at once.
AT_ONCE = 256


def views_command(doc: str | None, arguments: Sequence[str]) -> int:
    """Parse, train what is missing, encode, draw; returns the exit code."""
    return guarded(lambda rest: _run(doc or "", rest))(arguments)


def _run(doc: str, arguments: Sequence[str]) -> int:
    parser = Parser(doc)
    add_common(parser)
    parser.add_argument("--rows", type=int, default=2000, help="pairs drawn (default: 2000)")
    parser.add_argument(
        "--side", choices=["user", "item"], default="user", help="whose views (default: user)"
    )
    parser.add_argument("--out", type=Path, default=Path("reports/figures"), help="folder of the figure")
    options = parser.parse_args(list(arguments))
    if options.model != ["GALRec"] or len(options.dataset) != 1:
        raise UserError("views are GALRec's: name --model=GALRec and one --dataset")
    if len(seeds(options.seeds)) != 1:
        raise UserError(f"--seeds {options.seeds}: a picture shows one training; name one seed")
    if options.rows < 10:
        raise UserError(f"--rows {options.rows}: a density needs at least 10")
    found = pd.concat([_points(options, gal) for gal in (False, True)], ignore_index=True)
    stem = options.out / f"views-{options.dataset[0]}-{options.side}"
    with new_file(stem.with_suffix(".csv")) as temporary:
        found.to_csv(temporary, index=False, float_format="%.6g")
    for path in draw_views(found, stem):
        say(str(path))
    return 0


def _points(options: argparse.Namespace, gal: bool) -> pd.DataFrame:
    """Projected encodings of one trained model: columns gal, view, x, y, uniformity."""
    sets = options.sets if gal else [*options.sets, "GALRec.gal=false"]
    (cell,) = plan(argparse.Namespace(**{**vars(options), "sets": sets}))
    model, split = restored(Runner(house_of(options)), cell)
    views = [f"{options.side[0]}{hop}" for hop in range(3)]
    rng = np.random.default_rng(0)
    count = len(split.dataset)
    rows = np.sort(rng.choice(count, min(options.rows, count), replace=False))
    parts: dict[str, list[torch.Tensor]] = {view: [] for view in views}
    for start in track(range(0, len(rows), AT_ONCE), "views", unit="batch"):
        batch = load_batch(split.train, rows[start : start + AT_ONCE]).to(model.device)
        for view, encodings in model.encodings(batch, views).items():
            parts[view].append(encodings.cpu())
    return pd.concat([_projected(torch.cat(parts[view]), view, gal) for view in views])


def _projected(encodings: Any, view: str, gal: bool) -> pd.DataFrame:
    """t-SNE to the plane, then onto the circle around its middle."""
    from sklearn.manifold import TSNE

    plane = TSNE(2, init="pca", random_state=0, perplexity=min(30, (len(encodings) - 1) / 3)).fit_transform(
        encodings.numpy()
    )
    plane -= plane.mean(0)
    plane /= np.linalg.norm(plane, axis=1, keepdims=True).clip(1e-12)
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

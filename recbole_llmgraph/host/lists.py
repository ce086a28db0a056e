"""Ready-made top lists through the same evaluator as models."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from recbole_llmgraph.host.dataset import Split, target_pairs
from recbole_llmgraph.host.evaluation import Judge


def tested_users(split: Split) -> npt.NDArray[np.int64]:
    """Internal ids of the users that a split tests, sorted: the rows of every per-user result."""
    return np.unique(target_pairs(split.test)[0])


def judge_lists(split: Split, items: npt.NDArray[np.int32]) -> tuple[dict[str, float], pd.DataFrame]:
    """Metrics of top lists.

    Args:
        split: what is asked for.
        items: ids, best first, 0 where a list ends, of `tested_users(split)` in their order. `[users, k]`

    Returns:
        Means over users by metric, and each user's values.

    Raises:
        ValueError: when the lists are not those of the test users.
    """
    users, wanted = target_pairs(split.test)
    rows = tested_users(split)
    if len(items) != len(rows):
        raise ValueError(f"{len(items)} lists for {len(rows)} test users")
    judge = Judge(split)
    lists = np.zeros((len(rows), judge.topk), dtype=np.int64)
    lists[:, : items.shape[1]] = items[:, : judge.topk]
    pairs = np.unique(users * split.n_items + wanted)
    right = np.isin(rows[:, None] * split.n_items + lists, pairs) & (lists > 0)
    counts = np.bincount(np.searchsorted(rows, pairs // split.n_items), minlength=len(rows))
    hits = np.concatenate([right, counts[:, None]], axis=1).astype(np.int32)
    return judge.verdict(torch.from_numpy(hits))

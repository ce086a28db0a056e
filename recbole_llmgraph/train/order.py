"""The order in which training rows are seen, an epoch at a time."""

from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmgraph.host.batches import epoch_order
from recbole_llmgraph.train.settings import TrainSettings

Rows = npt.NDArray[np.int64]


def batches_of_epoch(
    loader: Any, settings: TrainSettings, rng: np.random.Generator, batching: str
) -> list[Rows]:
    """Row numbers of every batch of one epoch.

    Args:
        loader: RecBole's training loader.
        settings: batch size and rows an epoch.
        rng: the epoch's generator.
        batching: `uniform` (each row once, any order), `by_length` (each row once, similar
            history lengths together) or `by_user` (see `user_batches`).
    """
    dataset, size = loader._dataset, settings.train_batch_size
    if batching == "by_user":
        steps = -(-settings.rows_per_epoch // size) if settings.rows_per_epoch else len(dataset) // size + 1
        return user_batches(dataset.inter_feat[dataset.uid_field].numpy(), size, steps, rng)
    rows = np.arange(len(dataset))
    if 0 < settings.rows_per_epoch < len(rows):
        rows = np.sort(rng.choice(rows, settings.rows_per_epoch, replace=False))
    lengths = None
    if batching == "by_length":
        lengths = dataset.inter_feat[dataset.item_list_length_field].numpy()[rows]
    return [rows[batch] for batch in epoch_order(len(rows), size, rng, lengths=lengths)]


def user_batches(users: Rows, batch_size: int, steps: int, rng: np.random.Generator) -> list[Rows]:
    """Steps that draw users, not interactions: distinct users, one of their rows each.

    MMHCL's sampling: every step draws users uniformly without replacement and one
    interaction of each; an epoch has `len(users) // batch_size + 1` steps there.
    """
    by_user = np.argsort(users, kind="stable")
    _, starts, counts = np.unique(users[by_user], return_index=True, return_counts=True)
    size = min(batch_size, len(counts))
    batches = []
    for _ in range(steps):
        drawn = rng.permutation(len(counts))[:size]
        offset = (rng.random(size) * counts[drawn]).astype(np.int64)
        batches.append(by_user[starts[drawn] + offset])
    return batches

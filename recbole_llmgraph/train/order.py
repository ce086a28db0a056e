"""The order in which training rows are seen, an epoch at a time."""

from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_llmgraph.host.batches import epoch_order

Rows = npt.NDArray[np.int64]


def batches_of_epoch(loader: Any, batch_size: int, rng: np.random.Generator, batching: str) -> list[Rows]:
    """Row numbers of every batch of one epoch.

    Args:
        loader: RecBole's training loader.
        batch_size: rows a batch.
        rng: the epoch's generator.
        batching: `uniform` (each row once, any order), `by_length` (each row once, similar
            history lengths together) or `by_user` (see `user_batches`).
    """
    dataset = loader._dataset
    if batching == "by_user":
        return user_batches(dataset.inter_feat[dataset.uid_field].numpy(), batch_size, rng)
    lengths = None
    if batching == "by_length":
        lengths = dataset.inter_feat[dataset.item_list_length_field].numpy()
    return epoch_order(len(dataset), batch_size, rng, lengths=lengths)


def user_batches(users: Rows, batch_size: int, rng: np.random.Generator) -> list[Rows]:
    """Steps that draw users, not interactions: distinct users, one of their rows each.

    MMHCL's sampling: `len(users) // batch_size + 1` steps an epoch, every step drawing
    users uniformly without replacement and one interaction of each.
    """
    by_user = np.argsort(users, kind="stable")
    _, starts, counts = np.unique(users[by_user], return_index=True, return_counts=True)
    size = min(batch_size, len(counts))
    batches = []
    for _ in range(len(users) // batch_size + 1):
        drawn = rng.permutation(len(counts))[:size]
        offset = (rng.random(size) * counts[drawn]).astype(np.int64)
        batches.append(by_user[starts[drawn] + offset])
    return batches

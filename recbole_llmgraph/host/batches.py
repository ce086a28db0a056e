"""Batches of RecBole's loaders: in what order rows come, and without the padding nobody reads.

RecBole pads every history to `MAX_ITEM_LIST_LENGTH` on the right. A model whose attention or recurrence
never lets padding reach a real position gives the same loss and the same scores on the first `w` columns,
where `w` is the longest history of the batch. Batches of similar length make that pay: the median history
on Amazon is five items against fifty slots.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from recbole.data.interaction import Interaction
from torch import Tensor

Rows = npt.NDArray[np.int64]
#: Batches sorted together; more make batches purer, fewer make them more random.
POOL = 64
#: Transforms of RecBole that give the same rows on a history cut to the longest of its batch.
CUTTABLE = (None, "mask_itemseq")


def epoch_order(
    n_rows: int,
    batch_size: int,
    rng: np.random.Generator,
    lengths: npt.ArrayLike | None = None,
    *,
    pool: int = POOL,
) -> list[Rows]:
    """Batches of one epoch: every row once, in random order.

    With `lengths`, rows are shuffled, cut into pools of `pool` batches, sorted by length inside each pool
    (rows of one length stay shuffled) and cut into batches, which are shuffled.

    Args:
        n_rows: rows of the loader.
        batch_size: rows a batch; one batch an epoch may be smaller.
        rng: the epoch's generator.
        lengths: history length of every row. `[n_rows]`
        pool: batches sorted together.

    Returns:
        Row numbers, a batch each.
    """
    order = rng.permutation(n_rows)
    if lengths is not None:
        lengths = np.asarray(lengths)
        pools = _cut(order, batch_size * pool)
        order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools] or [order])
    batches = _cut(order, batch_size)
    if lengths is not None:
        batches = [batches[number] for number in rng.permutation(len(batches))]
    return batches


def _cut(rows: Rows, size: int) -> list[Rows]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def load_batch(loader: Any, index: Sequence[int] | Rows, accelerate: bool = True) -> Any:
    """What `loader` collates for the rows `index`: with negatives, masks and labels as RecBole makes them.

    Args:
        loader: RecBole's training or evaluation loader.
        index: row numbers. `[B]`
        accelerate: for models that declare `batching = "by_length"`, cut padding columns before and after
            RecBole's transform; the same random numbers are drawn either way, so the remaining columns are
            identical. Other models (Caser's convolutions span all slots) get every column.

    Returns:
        An `Interaction` from a training loader; from an evaluation loader a tuple that starts with one.
    """
    index = np.asarray(index, dtype=np.int64)
    if not (accelerate and _may_cut(loader)):
        return loader.collate_fn(index)
    loaded = _collate_cut(loader, index)
    if isinstance(loaded, tuple):
        return (trim(loaded[0], loader.config), *loaded[1:])
    return trim(loaded, loader.config)


def _may_cut(loader: Any) -> bool:
    """Whether the loader's model reads the same from a history without its padding."""
    by_length = getattr(loader.config.model_class, "batching", "uniform") == "by_length"
    return by_length and loader.is_sequential and loader.config["transform"] in CUTTABLE


def _collate_cut(loader: Any, index: Rows) -> Any:
    """`collate_fn` with the history cut before `loader.transform`, which walks over it in Python."""
    transform = loader.transform
    loader.transform = lambda dataset, interaction: transform(dataset, trim(interaction, loader.config))
    try:
        return loader.collate_fn(index)
    finally:
        loader.transform = transform


def trim(interaction: Interaction, config: Any) -> Interaction:
    """The same rows without the columns that are padding in every row.

    Right-padded fields (`*_list`, `Mask_*_list`) are cut to the longest history. BERT4Rec's lists of masked
    positions are padded on the left with position 0, which its loss leaves out; they lose the leading
    columns that hold nothing else.

    Args:
        interaction: rows; left untouched.
        config: RecBole's configuration, for the names of fields.
    """
    length_field = config["ITEM_LIST_LENGTH_FIELD"]
    if length_field not in interaction:
        return interaction
    width = max(1, int(interaction[length_field].max()))
    cut = {name: interaction[name][:, :width] for name in _history_fields(interaction, config)}
    masked = config["MASK_INDEX"]
    if masked and masked in interaction:
        keep = max(1, int((interaction[masked] > 0).sum(dim=1).max()))
        for name in (masked, config["POS_ITEMS"], config["NEG_ITEMS"]):
            cut[name] = _last_columns(interaction[name], keep)
    return Interaction({**interaction.interaction, **cut})


def _history_fields(interaction: Interaction, config: Any) -> Iterator[str]:
    """Fields with one column a slot of the history."""
    suffix, slots = config["LIST_SUFFIX"], config["MAX_ITEM_LIST_LENGTH"]
    for name, values in interaction.interaction.items():
        if name.endswith(suffix) and values.dim() >= 2 and values.shape[1] <= slots:
            yield name


def _last_columns(values: Tensor, count: int) -> Tensor:
    return values[:, values.shape[1] - count :] if values.shape[1] > count else values

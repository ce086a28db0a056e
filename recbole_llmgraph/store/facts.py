"""What groups of users and items are made of, kept small and without a single external id.

Of a split: how often each test user and each item was met in training (`<root>/splits/<fingerprint>/`).
Of a run: how often it recommended each item, and hit with it (`items.parquet` in its folder). Rows of users
stand in the order of `per_user.parquet`, rows of items in the order of their sorted external tokens.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recbole_llmgraph.base.files import new_folder

#: Folder of a store that holds the facts of splits.
SPLITS = "splits"
ITEMS, USERS = "items.parquet", "users.parquet"
#: Lengths of the lists that are counted.
CUTOFFS = (10, 20)
_META = b"recbole_llmgraph"


@dataclass(frozen=True)
class SplitFacts:
    """What the models of one split were trained on and are asked for.

    Attributes:
        users: a row a test user: `trained` interactions and, where every user has one test item, `target`:
            the row of that item in `items`.
        items: a row an item: `trained` and `tested` interactions.
    """

    users: pd.DataFrame
    items: pd.DataFrame


@dataclass(frozen=True)
class ItemFacts:
    """What one run recommended.

    Attributes:
        counts: a row an item, columns `shown@k|mask` and `hits@k|mask`, k of `CUTOFFS`.
        diversity: by text encoder, `mask` to the mean over users of the mean cosine distance between the
            texts of two items of a top-10 list; empty for a dataset without texts.
    """

    counts: pd.DataFrame
    diversity: dict[str, dict[str, float]] = field(default_factory=dict)


def write_split_facts(root: Path, fingerprint: str, facts: SplitFacts) -> Path:
    """Keep the facts of a split; those that are there already stay, since a fingerprint says all."""
    folder = root / SPLITS / fingerprint
    if not folder.is_dir():
        with new_folder(folder) as temporary:
            _write(temporary / USERS, facts.users, {})
            _write(temporary / ITEMS, facts.items, {})
    return folder


def read_split_facts(roots: Iterable[Path], fingerprint: str) -> SplitFacts | None:
    """Facts of a split from the first store that has them whole; None without."""
    for root in roots:
        folder = Path(root) / SPLITS / fingerprint
        users, items = _read(folder / USERS), _read(folder / ITEMS)
        if users is not None and items is not None and _fit(users[0], items[0]):
            return SplitFacts(users[0], items[0])
    return None


def write_item_facts(path: Path, facts: ItemFacts) -> None:
    """Write `items.parquet`; equal facts give equal bytes under one pyarrow version."""
    _write(path, facts.counts, {"diversity": facts.diversity})


def read_item_facts(run_folder: Path) -> ItemFacts | None:
    """What a run recommended; None for a run without the file, or with one that cannot be read."""
    found = _read(run_folder / ITEMS)
    if found is None:
        return None
    frame, meta = found
    told = meta.get("diversity")
    return ItemFacts(frame, told if isinstance(told, dict) else {})


def _write(path: Path, frame: pd.DataFrame, meta: Mapping[str, object]) -> None:
    """Whole numbers in their smallest type."""
    columns = {str(name): pa.array(small(frame[name].to_numpy())) for name in frame.columns}
    table = pa.table(columns).replace_schema_metadata({_META: json.dumps(meta, sort_keys=True).encode()})
    pq.write_table(table, path, compression="zstd", compression_level=9)


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Frame and remarks of a file that `_write` wrote whole; None otherwise."""
    try:
        table = pq.read_table(path)
        meta = json.loads((table.schema.metadata or {})[_META])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    return (table.to_pandas(), meta) if isinstance(meta, dict) else None


def _fit(users: pd.DataFrame, items: pd.DataFrame) -> bool:
    """Whether columns are there and targets lie among the items."""
    if "trained" not in users or not {"trained", "tested"} <= set(items.columns):
        return False
    return "target" not in users or not len(users) or int(users["target"].max()) < len(items)


def small(values: np.ndarray) -> np.ndarray:
    """Counts in the smallest unsigned type that holds them."""
    return values.astype(np.min_scalar_type(int(values.max()) if len(values) else 0))

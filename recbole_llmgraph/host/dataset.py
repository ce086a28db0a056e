"""One split of one dataset, as RecBole builds it, with what audits and masks need to know."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import Dataset
from recbole.utils import init_seed
from scipy.sparse import csr_matrix

from recbole_llmgraph.base.hashing import hash_bytes
from recbole_llmgraph.host.ratings import (
    HELD,
    RELEVANT,
    TEST,
    Ratings,
    parts_of,
    token_places,
)
from recbole_llmgraph.host.refuse import check_config
from recbole_llmgraph.host.sampling import count_training_only
from recbole_llmgraph.host.seam import keep_environment

Ids = npt.NDArray[np.int64]


@dataclass
class Split:
    """Training, validation and test part of a dataset.

    Attributes:
        config: the `Config` that built it.
        train: RecBole's training loader.
        valid: RecBole's full-sort loader of the validation part.
        test: the same of the test part.
        rated: hash of all ratings and their parts; None under `seq`.
    """

    config: Config
    train: Any
    valid: Any
    test: Any
    rated: str | None = None

    @property
    def dataset(self) -> Dataset:
        """The training part, which models are built from."""
        return self.train._dataset

    @property
    def n_users(self) -> int:
        """Users, padding included."""
        return int(self.dataset.num(self.dataset.uid_field))

    @property
    def n_items(self) -> int:
        """Items, padding included."""
        return int(self.dataset.num(self.dataset.iid_field))

    @cached_property
    def training_pairs(self) -> tuple[Ids, Ids]:
        """User and item of every row that is learnt, each user's in order of time. `[n], [n]`."""
        return training_pairs(self.dataset)

    @cached_property
    def seen_pairs(self) -> tuple[Ids, Ids]:
        """User and item of every training interaction, disliked ones included. `[n], [n]`."""
        seen = seen_ratings(self.dataset)
        return (seen.users, seen.items) if seen else self.training_pairs

    @cached_property
    def training_matrix(self) -> csr_matrix:
        """`[n_users, n_items]`, 1 where a user met an item in training, liked or not."""
        users, items = self.seen_pairs
        matrix = csr_matrix(
            (np.ones(len(users), dtype=np.float32), (users, items)), (self.n_users, self.n_items)
        )
        matrix.data[:] = 1.0
        return matrix

    @cached_property
    def fingerprint(self) -> str:
        """Hash of who met what in which part and order; equal for every model of one split."""
        if self.rated:
            return self.rated
        parts = [self.training_pairs, target_pairs(self.valid), target_pairs(self.test)]
        return hash_bytes(*(_lines(self.dataset, *pairs) for pairs in parts))

    @cached_property
    def training_fingerprint(self) -> str:
        """Hash of the training part alone: what an artifact trained on this split has seen."""
        return training_fingerprint(self.dataset)

    def item_tokens(self) -> list[str]:
        """External token of every item id; position 0 is `[PAD]`."""
        return item_tokens(self.dataset)

    def user_tokens(self) -> list[str]:
        """External token of every user id; position 0 is `[PAD]`."""
        return user_tokens(self.dataset)


def load_split(config: Config, before_build: Callable[[Dataset], None] | None = None) -> Split:
    """Read the atomic files and split them by the protocol in `config`.

    Args:
        config: from `make_config`.
        before_build: called with the whole dataset after ids are mapped and before it is
            split; the leak audit permutes targets there.
    """
    check_config(config)
    with keep_environment():
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        parts_of(dataset)
        if before_build is not None:
            before_build(dataset)
        rated = _rated(dataset)
        train, valid, test = data_preparation(config, dataset)
    split = Split(config=config, train=train, valid=valid, test=test, rated=rated)
    count_training_only((train, valid, test), split.training_pairs[1])
    return split


def _rated(dataset: Dataset) -> str | None:
    """Hash of all ratings, their parts and the least relevant rating; None under `seq`."""
    parts = parts_of(dataset)
    if parts is None:
        return None
    frame = dataset.inter_feat
    columns = [frame[name].to_numpy() for name in (dataset.uid_field, dataset.iid_field, "rating")]
    return hash_bytes(str(RELEVANT).encode(), *_rated_bytes(dataset, Ratings(*columns), parts))


def seen_ratings(dataset: Dataset) -> Ratings | None:
    """Every rating that a training part was made from, of either sign; None under `seq`."""
    found: Ratings | None = getattr(dataset, "seen_ratings", None)
    return found


def training_pairs(dataset: Dataset) -> tuple[Ids, Ids]:
    """User and item of every interaction that a training part holds, in order of time. `[n], [n]`.

    Sequential datasets hold prefixes: each row's target is one interaction, and the first
    item of a user's first row is the one that is no row's target.
    """
    inter = dataset.inter_feat
    users = inter[dataset.uid_field].numpy()
    items = inter[dataset.iid_field].numpy()
    if not hasattr(dataset, "item_list_length_field"):
        order = np.argsort(users, kind="stable")
        return users[order], items[order]
    first_users, first_rows = np.unique(users, return_index=True)
    heads = inter[dataset.item_id_list_field][:, 0].numpy()[first_rows]
    users = np.concatenate([first_users, users])
    order = np.argsort(users, kind="stable")
    return users[order], np.concatenate([heads, items])[order]


def target_pairs(loader: Any) -> tuple[Ids, Ids]:
    """User and item of every interaction that an evaluation part asks for, by user. `[n], [n]`."""
    dataset = loader._dataset
    users = dataset.inter_feat[dataset.uid_field].numpy()
    order = np.argsort(users, kind="stable")
    return users[order], dataset.inter_feat[dataset.iid_field].numpy()[order]


def item_tokens(dataset: Dataset) -> list[str]:
    """External token of every item id; position 0 is `[PAD]`."""
    return [str(token) for token in dataset.field2id_token[dataset.iid_field]]


def user_tokens(dataset: Dataset) -> list[str]:
    """External token of every user id; position 0 is `[PAD]`."""
    return [str(token) for token in dataset.field2id_token[dataset.uid_field]]


def training_histories(dataset: Dataset, longest: int) -> tuple[Ids, Ids]:
    """Each user's last training items, oldest first, 0 on the right; their number. `[U, longest], [U]`"""
    users, items = training_pairs(dataset)
    counts = np.bincount(users, minlength=int(dataset.num(dataset.uid_field)))
    place = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)  # in the user's history
    column = place - np.maximum(counts - longest, 0)[users]
    kept = column >= 0
    histories = np.zeros((len(counts), longest), dtype=np.int64)
    histories[users[kept], column[kept]] = items[kept]
    return histories, np.minimum(counts, longest)


def training_fingerprint(dataset: Dataset) -> str:
    """Hash of a training part's interactions in external tokens, each user's in order of time."""
    if seen := seen_ratings(dataset):
        return hash_bytes(*_rated_bytes(dataset, seen, np.zeros_like(seen.users)))
    return hash_bytes(_lines(dataset, *training_pairs(dataset)))


def _lines(dataset: Dataset, users: Ids, items: Ids) -> bytes:
    """One `user<TAB>item` line an interaction, sorted by user token, order in time kept."""
    user_tokens = dataset.field2id_token[dataset.uid_field].astype(str)[users]
    tokens = dataset.field2id_token[dataset.iid_field].astype(str)[items]
    order = np.argsort(user_tokens, kind="stable")
    return "\n".join(f"{u}\t{i}" for u, i in zip(user_tokens[order], tokens[order], strict=True)).encode()


def _rated_bytes(dataset: Dataset, rated: Ratings, parts: Ids) -> list[bytes]:
    """Ratings and their parts in order of tokens, as bytes that say the same whatever RecBole's numbers."""
    fields = dataset.uid_field, dataset.iid_field
    names = ["\n".join(np.sort(dataset.field2id_token[name].astype(str))).encode() for name in fields]
    users, items = (
        token_places(dataset, name)[ids] for name, ids in zip(fields, (rated.users, rated.items), strict=True)
    )
    order = np.lexsort((items, users))
    columns = (users.astype("<i8"), items.astype("<i8"), rated.values.astype("<f4"), parts.astype("<i8"))
    return [*names, *(column[order].tobytes() for column in columns)]


def permute_targets(parts: int, seed: int, *, redraw: bool = False) -> Callable[[Dataset], None]:
    """Audit hook for `load_split`: shuffle items among the last `parts` interactions of all users.

    `parts=1` permutes test targets, `parts=2` validation and test targets (each among themselves). Under
    `rate` and `sign` these are all ratings of the test part and of the hold-out.
    Whatever training produces must not change; see the leak test. A permutation leaves every item as
    frequent as it was; `redraw` puts items drawn uniformly in place of the targets, so that a leak of
    frequencies shows as well.
    """

    def permute(dataset: Dataset) -> None:
        frame = dataset.inter_feat
        rng = np.random.default_rng(seed)
        items = frame[dataset.iid_field].to_numpy().copy()
        for rows in _target_rows(dataset)[:parts]:
            if redraw:
                items[rows] = rng.integers(1, dataset.num(dataset.iid_field), len(rows))
            else:
                items[rows] = items[rng.permutation(rows)]
        frame[dataset.iid_field] = items

    return permute


def renumber_items(seed: int) -> Callable[[Dataset], None]:
    """Audit hook for `load_split`: gives all items other ids; tokens and histories stay.

    Ids follow the order of the dataset's file. Where that is users' whole histories, an item's id is close to
    those of its neighbours, targets too, and a code that is made from ids knows them. `permute_targets` moves
    items after they have their ids and cannot see it.
    """

    def renumber(dataset: Dataset) -> None:
        field = dataset.iid_field
        tokens = dataset.field2id_token[field]
        ids = np.concatenate([[0], 1 + np.random.default_rng(seed).permutation(len(tokens) - 1)])
        renamed = tokens.copy()
        renamed[ids] = tokens
        dataset.field2id_token[field] = renamed
        dataset.field2token_id[field] = {token: place for place, token in enumerate(renamed)}
        dataset.inter_feat[field] = ids[dataset.inter_feat[field].to_numpy()]
        if dataset.item_feat is not None:
            features = dataset.item_feat
            features[field] = ids[features[field].to_numpy()]
            dataset.item_feat = features.sort_values(field, ignore_index=True)

    return renumber


def _target_rows(dataset: Dataset) -> list[Ids]:
    """Rows of a whole dataset that are tested, then those that validate."""
    parts = parts_of(dataset)
    if parts is not None:
        return [np.flatnonzero(parts == part) for part in (TEST, HELD)]
    frame = dataset.inter_feat
    by_user = frame.groupby(dataset.uid_field)[dataset.time_field]
    backward = by_user.rank(method="first", ascending=False).to_numpy()
    return [np.flatnonzero(backward == place) for place in (1, 2, 3)]

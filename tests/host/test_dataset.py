"""One split, whichever family of models reads it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llmgraph.host.dataset import Split, target_pairs

FAMILIES = ("LightGCN", "SASRec", "S3Rec", "HeLLMPre", "BERT4Rec")


@pytest.fixture(scope="module", params=["plain", "repeats"])
def told(request: pytest.FixtureRequest, make_workshop: Any) -> Any:
    """A workshop, on histories longer than the models read and, as on Yelp, with repeats."""
    return make_workshop(repeats=request.param == "repeats")


def splits(workshop: Any) -> dict[str, Split]:
    short = {"max_history": 5}
    return {
        name: workshop.split(workshop.cell(name, **({} if name in ("LightGCN", "HeLLMPre") else short)))
        for name in FAMILIES
    }


def by_user(split: Split, pairs: Any) -> dict[str, list[str]]:
    users, items = pairs
    names, tokens = split.dataset.field2id_token["user_id"], split.item_tokens()
    found: dict[str, list[str]] = {}
    for user, item in zip(users, items, strict=True):
        found.setdefault(str(names[user]), []).append(tokens[item])
    return found


def test_training_pairs_are_the_histories_without_their_last_two(told: Any) -> None:
    parts = told.miniature.parts()
    for split in splits(told).values():
        assert by_user(split, split.training_pairs) == {user: part["train"] for user, part in parts.items()}
        assert by_user(split, target_pairs(split.valid)) == {u: [p["valid"]] for u, p in parts.items()}
        assert by_user(split, target_pairs(split.test)) == {u: [p["test"]] for u, p in parts.items()}


def test_every_family_has_one_fingerprint_and_one_numbering(told: Any) -> None:
    found = list(splits(told).values())
    assert len({split.fingerprint for split in found}) == 1
    assert len({split.training_fingerprint for split in found}) == 1
    assert len({tuple(split.item_tokens()) for split in found}) == 1
    assert len({(split.n_users, split.n_items) for split in found}) == 1
    for split in found[1:]:
        for mine, first in zip(split.training_pairs, found[0].training_pairs, strict=True):
            assert np.array_equal(mine, first)
        assert (split.training_matrix != found[0].training_matrix).nnz == 0


def test_the_training_matrix_holds_ones_however_often_an_item_came_back(make_workshop: Any) -> None:
    workshop = make_workshop(repeats=True)
    split = workshop.split(workshop.cell("LightGCN"))
    matrix = split.training_matrix
    parts = workshop.miniature.parts()
    assert set(matrix.data) == {1.0}
    assert matrix.nnz == sum(len(set(part["train"])) for part in parts.values())
    assert matrix.nnz < len(split.training_pairs[0])  # there are repeats, and the pairs keep them
    assert matrix[0].nnz == matrix[:, 0].nnz == 0


def exchanged(which: int) -> Any:
    """Hook: the first user's interaction `which` from the end becomes another item."""

    def hook(dataset: Any) -> None:
        frame = dataset.inter_feat
        rows = frame.index[frame["user_id"] == 1]
        row = frame.loc[rows].sort_values("timestamp").index[-which]
        frame.loc[row, "item_id"] = frame.loc[row, "item_id"] % (dataset.item_num - 1) + 1

    return hook


@pytest.mark.parametrize("name", ["LightGCN", "SASRec"])
@pytest.mark.parametrize(("which", "training_too"), [(1, False), (2, False), (3, True)])
def test_one_other_item_is_another_fingerprint(
    name: str, which: int, training_too: bool, workshop: Any
) -> None:
    cell = workshop.cell(name)
    before, after = workshop.split(cell), workshop.split(cell, exchanged(which))
    assert before.fingerprint != after.fingerprint
    assert (before.training_fingerprint != after.training_fingerprint) == training_too


def test_order_in_training_is_part_of_the_fingerprint(workshop: Any) -> None:
    def swap(dataset: Any) -> None:
        frame = dataset.inter_feat
        first, second = frame.index[frame["user_id"] == 1][:2]
        frame.loc[[first, second], "item_id"] = frame.loc[[second, first], "item_id"].to_numpy()

    cell = workshop.cell("LightGCN")
    assert workshop.split(cell).training_fingerprint != workshop.split(cell, swap).training_fingerprint


def test_the_fingerprint_is_of_tokens_not_of_numbers(make_workshop: Any, tmp_path: Path) -> None:
    """Lines in another order give other internal ids and the same split."""
    workshop = make_workshop()
    cell = workshop.cell("LightGCN")
    before = workshop.split(cell)
    path = workshop.miniature.ready.folder / "mini.inter"
    text = path.read_text()
    head, *lines = text.splitlines()
    try:
        path.write_text("\n".join([head, *reversed(lines)]) + "\n")
        after = workshop.split(cell)
    finally:
        path.write_text(text)
    assert before.item_tokens() != after.item_tokens()
    assert before.fingerprint == after.fingerprint


def test_too_short_histories_are_told_apart_by_the_fingerprint(make_workshop: Any) -> None:
    """RecBole cuts prefixes before it splits: with under four interactions the families see other parts.

    Such rows must never share a table, and they do not, since tables are made by fingerprint.
    """
    workshop = make_workshop(seed=9)
    hook = shortened(3)
    general, sequential = (workshop.split(workshop.cell(name), hook) for name in ("LightGCN", "SASRec"))
    assert general.fingerprint != sequential.fingerprint
    hook = shortened(4)
    general, sequential = (workshop.split(workshop.cell(name), hook) for name in ("LightGCN", "SASRec"))
    assert general.fingerprint == sequential.fingerprint


def shortened(length: int) -> Any:
    """Hook: the first user keeps only so many interactions."""

    def hook(dataset: Any) -> None:
        frame = dataset.inter_feat
        late = (frame["user_id"] == 1) & (frame["timestamp"] >= length)
        dataset.inter_feat = frame[~late].reset_index(drop=True)

    return hook

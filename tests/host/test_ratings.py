"""Random splits of ratings: who is in which part, what is learnt, what is masked, what is told apart."""

from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data import create_dataset

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import RELEASED_TEST
from recbole_llmgraph.host import ratings
from recbole_llmgraph.host.config import has_hold_out, recbole_values
from recbole_llmgraph.host.dataset import permute_targets, seen_ratings, target_pairs
from recbole_llmgraph.host.evaluation import Judge
from recbole_llmgraph.host.ratings import HELD, TEST
from recbole_llmgraph.host.seam import sealed

Triples = dict[tuple[str, str], float]


def told(split: Any, users: Any, items: Any, values: Any = None) -> Triples:
    """(user, item) -> rating, in tokens."""
    names, tokens = split.dataset.field2id_token["user_id"], split.item_tokens()
    values = np.zeros(len(users)) if values is None else values
    return {(str(names[u]), tokens[i]): float(v) for u, i, v in zip(users, items, values, strict=True)}


def rows(split: Any) -> Triples:
    """What is learnt."""
    inter = split.dataset.inter_feat
    return told(split, inter["user_id"].tolist(), inter["item_id"].tolist(), inter["rating"].tolist())


def seen(split: Any) -> Triples:
    found = seen_ratings(split.dataset)
    assert found is not None
    return told(split, found.users, found.items, found.values)


@pytest.fixture(scope="module")
def everything(workshop: Any) -> Triples:
    """All ratings, as the source file has them."""
    lines = (workshop.miniature.source / "mini.inter").read_text().splitlines()[1:]
    return {(u, i): float(r) for u, i, r, _ in (line.split("\t") for line in lines)}


@pytest.fixture(scope="module")
def splits(workshop: Any) -> Any:
    """Function: protocol, model, held out, seed -> split."""
    made: dict[Any, Any] = {}

    def make(protocol: str = "rate", model: str = "LLMPNGNN", held_out: bool = False, seed: int = 1) -> Any:
        key = protocol, model, held_out, seed
        if key not in made:
            cell = workshop.cell(model, protocol=protocol, held_out=held_out, seed=seed, oracle="off")
            made[key] = workshop.split(cell)
        return made[key]

    return make


@given(st.integers(0, 5000), st.floats(0, 1), st.floats(0, 1))
def test_parts_are_whole_numbers_of_rows(n: int, test: float, held: float) -> None:
    tested = round(test * n)
    found = Counter(ratings._first(n, tested, held).tolist())
    assert found.total() == n and found[TEST] == tested
    assert abs(found[HELD] - held * (n - tested)) <= 0.5


def test_a_fifth_is_tested_and_a_tenth_of_the_rest_held_out(splits: Any, everything: Triples) -> None:
    whole, fit = splits(), splits(held_out=True)
    n = len(everything)
    assert len(seen(whole)) == n - round(0.2 * n)
    assert len(seen(fit)) == len(seen(whole)) - round(0.1 * len(seen(whole)))
    assert seen(fit).items() <= seen(whole).items() <= everything.items()
    targets = [told(whole, *target_pairs(part)) for part in (whole.valid, whole.test)]
    held = {pair for pair, value in everything.items() if pair in seen(whole) and pair not in seen(fit)}
    tested = set(everything) - set(seen(whole))
    for target, part in zip(targets, (held, tested), strict=True):
        assert set(target) == {pair for pair in part if everything[pair] >= 4}
    assert [told(fit, *target_pairs(part)) for part in (fit.valid, fit.test)] == targets


def test_under_sign_a_fifth_of_each_user_is_tested(splits: Any, everything: Triples) -> None:
    whole, fit = splits("sign"), splits("sign", held_out=True)
    given_by, kept, fitted = (
        Counter(user for user, _ in found) for found in (everything, seen(whole), seen(fit))
    )
    for user, count in given_by.items():
        assert kept[user] == count - int(np.ceil(0.2 * count))
        assert fitted[user] == kept[user] - round(0.1 * kept[user])


def test_under_sign_a_released_part_is_tested(workshop: Any, splits: Any, everything: Triples) -> None:
    """Whatever a paper tested is tested, nothing else is; a tenth of the rest of each user is held out."""
    drawn = splits("sign")
    released = sorted(everything)[::7]
    folder = workshop.miniature.ready.folder
    lines = [("user_id", "item_id"), *released]
    (folder / RELEASED_TEST).write_text("".join(f"{user}\t{item}\n" for user, item in lines))
    try:
        cells = [
            workshop.cell("LLMPNGNN", protocol=protocol, held_out=held, oracle="off")
            for protocol, held in (("sign", False), ("sign", True), ("sign@1", False))
        ]
        whole, fit, own = (workshop.split(cell) for cell in cells)
    finally:
        (folder / RELEASED_TEST).unlink()
    assert set(everything) - set(seen(whole)) == set(released)
    assert set(told(whole, *target_pairs(whole.test))) == {p for p in released if everything[p] >= 4}
    kept, fitted = (Counter(user for user, _ in seen(found)) for found in (whole, fit))
    assert all(fitted[user] == count - round(0.1 * count) for user, count in kept.items())
    assert seen(own) == seen(drawn) and own.fingerprint != whole.fingerprint


@pytest.mark.parametrize("line", ["u0\tnobody", "nobody\ti0", "{user}\t{item}"])
def test_a_released_pair_that_nobody_rated_is_named(workshop: Any, everything: Triples, line: str) -> None:
    users, items = (sorted({pair[side] for pair in everything}) for side in (0, 1))
    user, item = next(pair for pair in product(users, items) if pair not in everything)
    path = workshop.miniature.ready.folder / RELEASED_TEST
    path.write_text("user_id\titem_id\n" + line.format(user=user, item=item) + "\n")
    try:
        with pytest.raises(UserError, match="prepare the dataset again with --force"):
            workshop.split(workshop.cell("LLMPNGNN", protocol="sign", oracle="off"))
    finally:
        path.unlink()


@pytest.mark.parametrize("protocol", ["rate", "sign"])
def test_models_without_an_eye_for_ratings_learn_the_liked_ones(
    protocol: str, splits: Any, everything: Triples
) -> None:
    both, liking = splits(protocol), splits(protocol, "LightGCN")
    assert rows(both) == seen(both) == seen(liking)
    assert rows(liking) == {pair: value for pair, value in seen(both).items() if value >= 4}
    assert set(rows(both).values()) == {1.0, 2.0, 3.0, 4.0, 5.0}  # stars are stars: RecBole would scale them
    users, items = both.training_matrix.nonzero()
    assert set(told(both, users, items)) == set(seen(liking))
    assert (both.training_matrix != liking.training_matrix).nnz == 0
    assert both.fingerprint == liking.fingerprint
    assert both.training_fingerprint == liking.training_fingerprint


def test_disliked_training_items_are_masked_too(splits: Any) -> None:
    import torch

    split = splits(held_out=True)
    liked = {pair for pair, value in seen(split).items() if value >= 4}

    class Backwards:
        """Scores fall with the item's id."""

        device = torch.device("cpu")

        def eval(self) -> None: ...

        def full_sort_predict(self, interaction: Any) -> Any:
            return -torch.arange(split.n_items).float().repeat(len(interaction), 1)

    judged = Judge(split)(Backwards(), "valid")
    users, tokens = split.dataset.field2id_token["user_id"], split.item_tokens()
    masked = 0
    for user, items in zip(judged.users, judged.items["train"], strict=True):
        offered = {(str(users[user]), tokens[item]) for item in items}
        assert not offered & set(seen(split))
        first = {(str(users[user]), token) for token in tokens[1:21]}
        masked += len(first & set(seen(split)) - liked)
    assert masked > 10


# -- the draw ------------------------------------------------------------------------------


def test_all_seeds_have_one_split_and_other_draws_have_others(splits: Any) -> None:
    """Tables average and pair users by position: rows of one table must have one split."""
    for protocol in ("rate", "sign"):
        assert seen(splits(protocol, seed=1)) == seen(splits(protocol, seed=2))
        assert splits(protocol, seed=1).fingerprint == splits(protocol, seed=2).fingerprint
    assert seen(splits("rate@1")) == seen(splits()) and splits("rate@1").fingerprint == splits().fingerprint
    assert seen(splits("rate@2")) != seen(splits())
    others = [splits(name).fingerprint for name in ("rate", "rate@2", "sign")]
    assert len({*others, splits("seq", "LightGCN").fingerprint}) == 4


@pytest.mark.parametrize("name", ["rate@", "rate@two", "rate@-1", "seq@2", "sign@", "Rate"])
def test_there_are_no_other_draws(name: str) -> None:
    with pytest.raises(UserError, match=f"no protocol '{name}'"):
        has_hold_out(name)


def test_the_draw_knows_neither_file_order_nor_numbers(make_workshop: Any) -> None:
    workshop = make_workshop(seed=4)
    cell = workshop.cell("LLMPNGNN", oracle="off")
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
    assert seen(before) == seen(after)
    assert before.fingerprint == after.fingerprint
    assert before.training_fingerprint == after.training_fingerprint


def test_the_draw_is_the_frozen_generators(splits: Any, everything: Triples) -> None:
    """Published runs lie on these splits: another way to draw is another protocol."""
    pairs = sorted(everything)
    for draw in (1, 2):
        order = np.random.RandomState(draw).permutation(len(pairs))
        tested = {pairs[row] for row in order[: round(0.2 * len(pairs))]}
        kept = [pairs[row] for row in order[round(0.2 * len(pairs)) :]]
        assert set(seen(splits(f"rate@{draw}"))) == set(everything) - tested
        assert set(seen(splits(f"rate@{draw}", held_out=True))) == set(kept[round(0.1 * len(kept)) :])


def other_rating(dataset: Any) -> None:
    """Hook: one rating of the first row becomes another, of the same sign."""
    dataset.inter_feat.loc[0, "rating"] = {1: 2, 2: 1, 3: 2, 4: 5, 5: 4}[int(dataset.inter_feat["rating"][0])]


@pytest.mark.parametrize("protocol", ["rate", "sign"])
def test_one_other_rating_is_another_fingerprint(protocol: str, splits: Any, workshop: Any) -> None:
    after = workshop.split(
        workshop.cell("LLMPNGNN", protocol=protocol, held_out=False, oracle="off"), other_rating
    )
    assert after.fingerprint != splits(protocol).fingerprint


@pytest.mark.parametrize("protocol", ["rate", "sign"])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("redraw", [False, True])
def test_the_audit_moves_targets_and_no_training_row(
    protocol: str, parts: int, redraw: bool, splits: Any, workshop: Any
) -> None:
    cell = workshop.cell("LLMPNGNN", protocol=protocol, oracle="off")
    before, after = (
        splits(protocol, held_out=True),
        workshop.split(cell, permute_targets(parts, 5, redraw=redraw)),
    )
    assert seen(before) == seen(after) and rows(before) == rows(after)
    assert before.training_fingerprint == after.training_fingerprint
    assert before.fingerprint != after.fingerprint
    was, now = (
        {part: told(s, *target_pairs(getattr(s, part))) for part in ("valid", "test")}
        for s in (before, after)
    )
    assert was["test"] != now["test"]
    assert (was["valid"] != now["valid"]) == (parts == 2)


# -- edges ---------------------------------------------------------------------------------


def with_edges(workshop: Any, path: Path, lines: list[str], model: str = "LLMPNGNN") -> Any:
    path.write_text("".join(f"{line}\n" for line in lines))
    cell = workshop.cell(model, protocol="rate", held_out=False, oracle="off")
    return workshop.split(replace(cell, settings=cell.settings.model_copy(update={"edges": str(path)})))


def test_edges_are_learnt_and_neither_seen_nor_masked(splits: Any, workshop: Any, tmp_path: Path) -> None:
    plain = splits()
    fresh = [item for item in plain.item_tokens()[1:] if ("u1", item) not in seen(plain)][:2]
    lines = [f"u1\t{fresh[0]}\t5", f"u1\t{fresh[1]}\t1"]
    both = with_edges(workshop, tmp_path / "edges.tsv", lines)
    assert rows(both) == {**rows(plain), ("u1", fresh[0]): 5.0, ("u1", fresh[1]): 1.0}
    assert seen(both) == seen(plain)
    assert (both.training_matrix != plain.training_matrix).nnz == 0
    assert both.fingerprint == plain.fingerprint
    liking = with_edges(workshop, tmp_path / "edges.tsv", lines, "LightGCN")
    assert set(rows(liking)) - set(rows(splits(model="LightGCN"))) == {("u1", fresh[0])}


@pytest.mark.parametrize("line", ["u999\ti1\t5", "u1\ti999\t5"])
def test_edges_of_unknown_users_or_items_are_refused(line: str, workshop: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"edges.tsv:2: no user u\w+ or no item i\w+ in mini"):
        with_edges(workshop, tmp_path / "edges.tsv", ["u1\ti1\t5", line])


# -- the trap ------------------------------------------------------------------------------


def test_recbole_scales_stars_unless_told_not_to(workshop: Any, tmp_path: Path) -> None:
    """`normalize_all` is True by default: a rating of 4 becomes 0.75, below every threshold."""
    values = recbole_values(
        "general", {}, folder=workshop.miniature.ready.folder, protocol="rate", seed=1
    )  # fmt: skip
    with sealed():
        config = Config(model="BPR", dataset="mini", config_dict={**values, "normalize_all": True})
    assert create_dataset(config).inter_feat["rating"].max() == 1.0


def test_a_dataset_without_targets_is_refused(workshop: Any) -> None:
    def dislike(dataset: Any) -> None:
        dataset.inter_feat["rating"] = 2.0

    with pytest.raises(UserError, match="mini: no rating of 4 or more in the hold-out"):
        workshop.split(workshop.cell("LLMPNGNN", oracle="off"), dislike)

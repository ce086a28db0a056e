"""The judge against RecBole's own evaluation and against plain loops."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from recbole.config import Config
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.trainer import Trainer

from recbole_llmgraph.host import evaluation
from recbole_llmgraph.host.evaluation import MASKS, Judge
from recbole_llmgraph.host.seam import sealed

KS = (5, 10, 20)


def loop_metrics(scores: np.ndarray, targets: set[int], banned: set[int]) -> dict[str, float]:
    """Recall and NDCG of one user as the textbook has them. Scores of all items, padding at 0."""
    ranked = sorted(
        (item for item in range(1, len(scores)) if item not in banned), key=lambda item: -scores[item]
    )
    found: dict[str, float] = {}
    for k in KS:
        hits = [place for place, item in enumerate(ranked[:k], start=1) if item in targets]
        ideal = sum(1 / np.log2(place + 1) for place in range(1, min(k, len(targets)) + 1))
        found[f"recall@{k}"] = len(hits) / len(targets)
        found[f"ndcg@{k}"] = sum(1 / np.log2(place + 1) for place in hits) / ideal
    return found


def loop_table(trained: Any, workshop: Any, banned: list[str]) -> pd.DataFrame:
    """`loop_metrics` of every test user, by internal user id; `banned` names the parts taken out."""
    dataset, parts = trained.split.dataset, workshop.miniature.parts()
    loader = trained.split.test
    rows = trained.scores().numpy()
    users = loader.collate_fn(np.arange(loader.sample_size))[0][dataset.uid_field].tolist()
    found = {}
    for user, scores in zip(users, rows, strict=True):
        history = parts[dataset.id2token(dataset.uid_field, user)]
        out = [item for part in banned for item in np.atleast_1d(history[part])]
        ids = {dataset.token2id(dataset.iid_field, str(item)) for item in out}
        target = {dataset.token2id(dataset.iid_field, history["test"])}
        found[user] = loop_metrics(scores, target, ids)
    return pd.DataFrame.from_dict(found, orient="index").sort_index()


def recbole_says(trained: Any) -> dict[str, float]:
    with sealed():
        trainer = Trainer(trained.split.config, trained.model)
    return dict(trainer.evaluate(trained.split.test, load_best_model=False, show_progress=False))


def test_a_sequential_models_numbers_are_recboles(workshop: Any) -> None:
    trained = workshop.reference("SASRec")
    ours = trained.judge(trained.model, "test").metrics["none"]
    theirs = recbole_says(trained)
    assert ours.keys() == theirs.keys()
    assert all(abs(ours[name] - theirs[name]) <= 1e-12 for name in theirs)
    assert 0 < ours["ndcg@10"] < 1


@pytest.mark.parametrize("model", ["LightGCN", "HeLLMPre", "SASRec", "HeLLM"])
def test_every_user_is_judged_as_a_plain_loop_judges(model: str, workshop: Any) -> None:
    trained = workshop.reference(model)
    judged = trained.judge(trained.model, "test")
    for mask, banned in {"none": [], "train": ["train"]}.items():
        expected = loop_table(trained, workshop, banned)
        assert judged.users.tolist() == expected.index.tolist()
        for name in expected:
            np.testing.assert_allclose(judged.per_user[f"{name}|{mask}"], expected[name], atol=1e-9)
            assert judged.metrics[mask][name] == pytest.approx(expected[name].mean(), abs=1e-9)


def test_a_general_models_numbers_are_recboles_under_recboles_mask(workshop: Any) -> None:
    """RecBole takes training and validation items out at test time; the loop does the same."""
    trained = workshop.reference("LightGCN")
    theirs = recbole_says(trained)
    expected = loop_table(trained, workshop, ["train", "valid"]).mean()
    assert all(abs(theirs[name] - expected[name]) <= 1e-9 for name in expected.index)
    ours = trained.judge(trained.model, "test").metrics["train"]
    assert ours != theirs  # the difference between the two masks is real here


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(np.int8, st.tuples(st.integers(1, 12), st.just(24)), elements=st.integers(0, 5)),
    st.integers(0, 2**31),
)
def test_recboles_metrics_are_the_textbooks(choice: np.ndarray, seed: int) -> None:
    """Random scores, several targets a user: RecBole's Recall and NDCG against the loops."""
    rng = np.random.default_rng(seed)
    users = len(choice)
    scores = rng.permuted(np.tile(np.arange(24.0), (users, 1)), axis=1)
    targets = [set(np.flatnonzero(row == 5)) - {0} or {int(rng.integers(1, 24))} for row in choice]
    masked = torch.from_numpy(scores).clone()
    masked[:, 0] = -torch.inf
    best = masked.topk(20, dim=1).indices.numpy()
    hits = np.array(
        [[item in target for item in row] for row, target in zip(best, targets, strict=True)], dtype=np.int32
    )
    matrix = np.concatenate([hits, [[len(target)] for target in targets]], axis=1).astype(np.int32)
    struct = DataStruct()
    struct.set("rec.topk", torch.from_numpy(matrix))
    said = Evaluator(evaluator_settings()).evaluate(struct)
    loops = pd.DataFrame([loop_metrics(s, t, set()) for s, t in zip(scores, targets, strict=True)]).mean()
    assert all(abs(said[name] - loops[name]) <= 1e-9 for name in loops.index)


def evaluator_settings() -> dict[str, Any]:
    return {"metrics": ["Recall", "NDCG"], "topk": list(KS), "metric_decimal_place": 12}


class Fixed:
    """A model whose scores are a given matrix, in whatever family's clothes. `[users, N]`"""

    device = torch.device("cpu")

    def __init__(self, matrix: torch.Tensor, field: str) -> None:
        self.matrix, self.field, self.asked = matrix, field, 0

    def eval(self) -> None:
        pass

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        users = interaction[self.field]
        self.asked += len(users)
        return self.matrix[users].reshape(-1)


@pytest.fixture(scope="module")
def families(workshop: Any) -> dict[str, Any]:
    return {name: workshop.reference(name).split for name in ("LightGCN", "SASRec", "S3Rec")}


@pytest.mark.parametrize("part", ["valid", "test"])
def test_equal_scores_get_equal_numbers_in_every_family(part: Any, families: dict[str, Any]) -> None:
    general = families["LightGCN"]
    matrix = torch.rand(general.n_users, general.n_items, generator=torch.Generator().manual_seed(4))
    found = {}
    for name, split in families.items():
        model = Fixed(matrix, split.dataset.uid_field)
        found[name] = Judge(split)(model, part)
        assert model.asked == len(found[name].users)  # one pass of scores for both masks
    first = found["LightGCN"]
    for other in found.values():
        assert other.metrics == first.metrics
        assert other.per_user.equals(first.per_user)
        assert all(np.array_equal(other.items[mask], first.items[mask]) for mask in MASKS)
    assert first.metrics["none"] != first.metrics["train"]


def test_the_mask_takes_out_training_items_and_nothing_else(workshop: Any, families: dict[str, Any]) -> None:
    split = families["SASRec"]
    parts, dataset = workshop.miniature.parts(), split.dataset
    # everybody's scores fall with the item's id, so that what is missing from the top shows the mask
    matrix = -torch.arange(split.n_items).float().repeat(split.n_users, 1)
    judged = Judge(split)(Fixed(matrix, dataset.uid_field), "test")
    for user, row in zip(judged.users, judged.items["train"], strict=True):
        history = parts[dataset.id2token(dataset.uid_field, user)]["train"]
        seen = {dataset.token2id(dataset.iid_field, item) for item in history}
        assert row.tolist() == [item for item in range(1, split.n_items) if item not in seen][: max(KS)]
    assert (judged.items["none"] == np.arange(1, max(KS) + 1)).all()


def test_a_users_values_average_to_the_numbers_told(workshop: Any) -> None:
    trained = workshop.reference("HeLLM")
    judged = trained.judge(trained.model, "valid")
    assert len(judged.per_user) == len(judged.users) == len(workshop.miniature.histories)
    for mask in MASKS:
        for name, told in judged.metrics[mask].items():
            assert round(float(judged.per_user[f"{name}|{mask}"].to_numpy().mean()), 12) == told
    columns = {f"{metric}@{k}|{mask}" for metric in ("recall", "ndcg") for k in KS for mask in MASKS}
    assert set(judged.per_user.columns) == columns


def test_where_few_items_are_left_nothing_forbidden_fills_the_list(make_workshop: Any) -> None:
    """Users who met most of the catalogue: masked items and padding are no recommendations and no hits."""
    workshop = make_workshop(repeats=True, seed=5)
    cell = workshop.cell("LightGCN")
    split = workshop.split(cell)
    split.training_matrix[1:, 1 : split.n_items - 6] = 1.0  # six candidates are left
    dataset = split.dataset
    judged = Judge(split)(Fixed(torch.zeros(split.n_users, split.n_items), dataset.uid_field), "test")
    targets = dict(zip(*(ids.tolist() for ids in evaluation_targets(split)), strict=True))
    for user, row, hit in zip(
        judged.users, judged.items["train"], judged.per_user["recall@20|train"], strict=True
    ):
        allowed = set(np.flatnonzero(split.training_matrix[user].toarray()[0] == 0)) - {0}
        assert set(row.tolist()) - {0} == allowed
        assert hit == (targets[user] in allowed)


def evaluation_targets(split: Any) -> Any:
    from recbole_llmgraph.host.dataset import target_pairs

    return target_pairs(split.test)


def test_scores_that_are_no_numbers_stop_the_run(families: dict[str, Any]) -> None:
    split = families["SASRec"]
    matrix = torch.zeros(split.n_users, split.n_items)
    matrix[5, 7] = torch.nan
    with pytest.raises(FloatingPointError, match="NaN"):
        Judge(split)(Fixed(matrix, split.dataset.uid_field), "test")


def test_batches_hold_as_many_users_as_memory_allows(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = workshop.reference("LightGCN")
    asked = []
    model = Fixed(torch.rand(trained.split.n_users, trained.split.n_items), "user_id")
    plain = model.full_sort_predict
    model.full_sort_predict = lambda rows: (asked.append(len(rows)), plain(rows))[1]  # type: ignore[method-assign]
    monkeypatch.setattr(evaluation, "SCORES_AT_ONCE", 10 * trained.split.n_items + 5)
    trained.judge(model, "test")
    assert asked == [10] * 7 + [2]


def test_the_evaluator_needs_no_more_than_these_settings(workshop: Any, tmp_path: Path) -> None:
    """The loops above and the judge read the same evaluator settings."""
    config: Config = workshop.reference("SASRec").split.config
    assert {key: config[key] for key in evaluator_settings()} == evaluator_settings()

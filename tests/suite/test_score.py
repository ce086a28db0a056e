"""Facts beside a run, and outside top lists: against plain counting and against the run they came from."""

import importlib.util
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from recbole_llmgraph.artifact.text_features import made_features, text_features_file
from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.side import item_texts
from recbole_llmgraph.store.facts import read_item_facts, read_split_facts
from recbole_llmgraph.store.lists import read_lists, write_lists
from recbole_llmgraph.store.runs import RunStore, read_run, read_stores
from recbole_llmgraph.suite.facts import list_diversity
from recbole_llmgraph.suite.house import House
from recbole_llmgraph.suite.run import Runner
from recbole_llmgraph.suite.score import Outside, complete, score

COMMAND = Path(__file__).resolve().parents[2] / "benchmarks" / "score.py"


@pytest.fixture(scope="module")
def house(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house with one finished run."""
    root = tmp_path_factory.mktemp("scored") / "runs"
    made = House(store=root, data=workshop.miniature.data, source=workshop.miniature.source)
    Runner(made).run(workshop.cell("BPR"))
    return made


@pytest.fixture
def folder(house: House) -> Path:
    (run,) = [run for run in read_stores([house.store]).runs if run.record.model == "BPR"]
    return run.folder


def tokens(miniature: Any) -> list[str]:
    return sorted({item for history in miniature.histories.values() for item in history})


def test_facts_of_a_split_are_plain_counts(house: House, folder: Path, miniature: Any) -> None:
    facts = read_split_facts([house.store], read_run(folder).split_fingerprint)
    assert facts is not None
    parts, order = miniature.parts(), tokens(miniature)
    trained = Counter(item for part in parts.values() for item in part["train"])
    tested = Counter(part["test"] for part in parts.values())
    assert facts.items["trained"].tolist() == [trained[item] for item in order]
    assert facts.items["tested"].tolist() == [tested[item] for item in order]
    users = pd.read_parquet(folder / "topk.parquet")["user"]
    assert facts.users["trained"].tolist() == [len(parts[user]["train"]) for user in users]
    assert [order[place] for place in facts.users["target"]] == [parts[user]["test"] for user in users]


def test_facts_of_a_run_are_plain_counts(folder: Path, miniature: Any) -> None:
    facts = read_item_facts(folder)
    assert facts is not None and "items.parquet" in read_run(folder).files
    for mask, k in itertools.product(("none", "train"), (10, 20)):
        lists = read_lists(folder / "topk.parquet", mask)
        shown = Counter(item for items in lists.values() for item in items[:k])
        hits = Counter(
            part["test"] for user, part in miniature.parts().items() if part["test"] in lists[user][:k]
        )
        assert facts.counts[f"shown@{k}|{mask}"].tolist() == [shown[item] for item in tokens(miniature)]
        assert facts.counts[f"hits@{k}|{mask}"].tolist() == [hits[item] for item in tokens(miniature)]
        if mask == "none" and k == 10:
            mean = sum(hits.values()) / len(lists)
            assert read_run(folder).metrics["test"][mask]["recall@10"] == pytest.approx(mean)
    assert set(facts.diversity) == {"TF-IDF"} and set(facts.diversity["TF-IDF"]) == {"none", "train"}
    assert all(0 < value < 1 for value in facts.diversity["TF-IDF"].values())


def test_no_file_of_facts_holds_an_id(house: House, folder: Path, miniature: Any) -> None:
    files = [folder / "items.parquet", *(house.store / "splits").rglob("*.parquet")]
    assert len(files) == 3
    for path in files:
        assert all(dtype.kind == "u" for dtype in pd.read_parquet(path).dtypes)


@pytest.mark.parametrize("seed", range(3))
def test_diversity_is_the_mean_over_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(9, 4)).astype(np.float32)
    vectors[[0, 5]] = 0  # padding, and an item without a text
    items = rng.integers(0, 9, (12, 5)).astype(np.int32)
    items[0] = [5, 0, 0, 0, 0]
    means = []
    for row in items:
        real = [vectors[i] / np.linalg.norm(vectors[i]) for i in row if vectors[i].any()]
        pairs = [1 - float(a @ b) for a, b in itertools.combinations(real, 2)]
        means += [np.mean(pairs)] if pairs else []
    vectors = csr_array(vectors)
    assert list_diversity(vectors, items) == pytest.approx(np.mean(means), rel=1e-5)
    assert np.isnan(list_diversity(vectors, items[:1]))


class Lengths:
    """A text encoder of one's own."""

    revision = "1"

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, texts: Any) -> Any:
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_sentence_encoders_that_met_the_texts_are_asked_too(
    house: House, miniature: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_llmgraph.artifact.text_features.open_text_encoder", Lengths)
    texts = item_texts(miniature.ready)
    for encoder in ("lengths", "control: lengths"):
        text_features_file(texts, encoder, house.artifacts)
    text_features_file({**texts, "other": "text"}, "lengths of more", house.artifacts)
    (table,) = made_features(texts, house.artifacts)
    assert table.meta["encoder"] == "lengths"


# --- outside lists -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "name"), [("train", "a.csv"), ("none", "a.tsv.gz"), ("train", "topk.parquet")]
)
def test_a_runs_own_lists_score_as_the_run(
    house: House, folder: Path, miniature: Any, tmp_path: Path, mask: Any, name: str
) -> None:
    path = folder / "topk.parquet"
    if name != "topk.parquet":
        write_lists(read_lists(path, mask), tmp_path / name)
        path = tmp_path / name
    record = score(house, miniature.card, Outside(path, f"Mine{name[0]}{mask}", "seq", mask, notes=("mine",)))
    original = read_run(folder)
    assert record.metrics == {"test": {mask: original.metrics["test"][mask]}}
    assert record.split_fingerprint == original.split_fingerprint and "mine" in record.notes
    assert record.single_target and record.mask == mask
    mine = house.runs.folder("mini", record.model, record.key)
    assert read_run(mine).test_users == original.test_users
    a, b = read_item_facts(mine), read_item_facts(folder)
    assert a is not None and b is not None
    pd.testing.assert_frame_equal(a.counts, b.counts[a.counts.columns])
    one, other = (RunStore.read(house.runs, place) for place in (mine, folder))
    assert one.candidates == other.candidates


def test_scores_are_ranked_and_short_lists_are_noted(house: House, miniature: Any, tmp_path: Path) -> None:
    parts = miniature.parts()
    rows = [(user, part["test"], 2.5) for user, part in parts.items()]
    rows += [(user, part["valid"], 9.0) for user, part in parts.items() if part["valid"] != part["test"]]
    path = tmp_path / "s.csv"
    pd.DataFrame(rows[3:], columns=["user", "item", "score"]).to_csv(path, index=False)
    record = score(house, miniature.card, Outside(path, "Scores", "seq", "none"))
    hit = 1 - 3 / len(parts)
    assert record.metrics["test"]["none"]["recall@5"] == pytest.approx(hit, abs=1e-6)
    assert record.metrics["test"]["none"]["ndcg@5"] < hit
    assert any(f"lists of {len(parts)} users hold fewer than 20 items" in note for note in record.notes)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("user,item\nu1,i1\n", "expected columns user, item and rank or score; found user, item"),
        ("user,item,rank\nu1,i1,first\n", "holds something that is no number"),
        ("user,item,rank\nu1,i1,1\nu1,i1,2\n", "user u1 has an item twice"),
        ("user,item,rank\nnobody,i1,1\n", "user nobody is not in this dataset"),
        ("user,item,rank\nu1,lamp,1\n", "item lamp of user u1 is not in this dataset"),
        ("user,item,rank\n", "no list of a tested user"),
    ],
)
def test_files_that_cannot_be_scored_say_why(
    house: House, miniature: Any, tmp_path: Path, lines: str, told: str
) -> None:
    path = tmp_path / "lists.csv"
    path.write_text(lines)
    with pytest.raises(UserError, match=told):
        score(house, miniature.card, Outside(path, "Bad", "seq", "none"))


def test_lists_that_hold_what_the_mask_takes_out_are_refused(
    house: House, miniature: Any, tmp_path: Path
) -> None:
    user, part = next(iter(miniature.parts().items()))
    path = tmp_path / "lists.csv"
    path.write_text(f"user,item,rank\n{user},{part['train'][0]},1\n")
    with pytest.raises(UserError, match=f"user {user} is recommended {part['train'][0]}.*--mask none"):
        score(house, miniature.card, Outside(path, "Bad", "seq", "train"))
    with pytest.raises(UserError, match="no such file"):
        read_lists(tmp_path / "none.csv", "none")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"expected \.csv, \.tsv or \.parquet"):
        read_lists(tmp_path / "a.txt", "none")
    with pytest.raises(UserError, match=r"written as \.csv or \.tsv"):
        write_lists({}, tmp_path / "a.json")


def test_older_runs_are_completed_without_training(
    house: House, folder: Path, miniature: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_run(folder)
    older = House(store=tmp_path / "runs", data=house.data, source=house.source)
    users = next(run for run in read_stores([house.store]).runs if run.record.key == record.key).per_user()
    bare = record.model_copy(update={"files": {}})
    place = older.runs.write(bare, users, pd.read_parquet(folder / "topk.parquet"))
    monkeypatch.setattr("recbole_llmgraph.suite.score.dataset_card", lambda name: miniature.card)
    complete(older)
    facts, original = read_item_facts(place), read_item_facts(folder)
    assert facts is not None and original is not None
    pd.testing.assert_frame_equal(facts.counts, original.counts)
    assert facts.diversity["TF-IDF"] == original.diversity["TF-IDF"]
    assert read_run(place).metrics == record.metrics and "items.parquet" in read_run(place).files
    assert read_split_facts([older.store], record.split_fingerprint) is not None
    assert read_stores([older.store]).problems == []


def test_the_command_scores_and_refuses(
    house: House, folder: Path, miniature: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("score_command", COMMAND)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    base = [f"--data={house.data}", f"--store={house.store}", f"--source={house.source}"]
    asked = [f"--topk={folder / 'topk.parquet'}", "--name=Told", f"--dataset={miniature.card_path}"]
    assert module.score_command(module.__doc__, [*asked, *base]) == 0
    assert "Told on mini, mask train: recall@5 0." in capsys.readouterr().err
    assert module.score_command(module.__doc__, asked[:2]) == 2
    assert "name --dataset" in capsys.readouterr().err

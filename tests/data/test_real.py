"""The real datasets, where they lie: counts, order, text, and RecBole's own reading of them."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from recbole_llmgraph.base.files import RELEASED_TEST
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.data.prepare import Prepared, prepare
from recbole_llmgraph.data.side import default_fields, item_texts, unknown_provenance

FIELDS = {
    "beauty": ["title", "brand", "categories"],
    "sports": ["brand", "categories"],
    "toys": ["keywords"],
    "yelp": ["title", "categories"],
    "ml-1m": ["title", "release_year", "categories"],
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("sports", "toys", "yelp", "ml-1m")]


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """Prepared datasets, each made once."""
    folder = tmp_path_factory.mktemp("data")
    return lambda name, source=None: prepare(dataset_card(name), folder, source=source)


def rows(prepared: Prepared, name: str) -> list[list[str]]:
    lines = (prepared.folder / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines[1:]]


@pytest.mark.parametrize("name", ["beauty", *SLOW])
def test_counts_of_the_written_files(ready, real_sources: Path, name: str) -> None:
    made = ready(name, real_sources)
    counts = made.card.counts
    inter = rows(made, f"{name}.inter")
    pairs = [(row[0], row[1]) for row in inter]
    assert len(inter) == counts.interactions
    assert len({user for user, _ in pairs}) == counts.users
    assert len({item for _, item in pairs}) == counts.items
    assert len(pairs) - len(set(pairs)) == counts.repeats
    assert {row[0] for row in rows(made, f"{name}.item")} == {item for _, item in pairs}
    place: Counter[str] = Counter()
    for row in inter:
        assert int(row[-1]) == place[row[0]], "timestamp is the rank in the user's history"
        place[row[0]] += 1
    assert min(place.values()) >= 3
    assert default_fields(made) == FIELDS[name]
    assert unknown_provenance(made) == (["keywords"] if name == "toys" else [])
    texts = item_texts(made)
    assert len(texts) == counts.items
    assert sum(bool(text) for text in texts.values()) >= counts.items * 0.99


@pytest.mark.slow
def test_times_never_fall_inside_a_history(ready, real_sources: Path) -> None:
    made = ready("beauty", real_sources)
    inter, timed = rows(made, "beauty.inter"), rows(made, "time.tsv")
    assert [row[:3] for row in timed] == inter
    for before, after in pairwise(timed):
        if before[0] == after[0]:
            assert float(before[3]) <= float(after[3])


def test_s3rec_numbered_in_the_order_of_mcauleys_files(real_sources: Path) -> None:
    """What `number` rests on: users by first ASIN, items by first visit, ties in time by ASIN."""
    import gzip

    folder = real_sources / "amazon-beauty"
    if not (folder / "datamaps.json.gz").is_file():
        pytest.skip("no amazon-beauty/datamaps.json.gz")
    asin = json.loads(gzip.decompress((folder / "datamaps.json.gz").read_bytes()))["id2item"]
    lines = gzip.decompress((folder / "Beauty.txt.gz").read_bytes()).decode().splitlines()
    sequences = [line.split(" ") for line in lines]
    firsts = [min(asin[item] for item in items) for _, *items in sequences]
    assert firsts == sorted(firsts)
    seen = dict.fromkeys(item for _, *items in sequences for item in items)
    assert list(seen) == [str(place) for place in range(1, len(seen) + 1)]


@pytest.mark.slow
def test_ml_1m_ratings(ready, real_sources: Path) -> None:
    made = ready("ml-1m", real_sources)
    ratings = Counter(row[2] for row in rows(made, "ml-1m.inter"))
    assert ratings == {"1": 56174, "2": 107557, "3": 261197, "4": 348971, "5": 226310}
    assert any("approximate" in note for note in made.manifest["notes"])
    assert unknown_provenance(made, ["summary"]) == ["summary"]
    assert len((made.folder / RELEASED_TEST).read_text().splitlines()) == 1 + 202_449
    assert any("damaged lines left out: 92524, 92528" in note for note in made.manifest["notes"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beauty", "yelp"])
def test_recbole_reads_every_row(ready, real_sources: Path, monkeypatch, name: str) -> None:
    monkeypatch.setattr("sys.argv", ["pytest"])
    compat = pytest.importorskip("recbole_llmgraph.host.compat")
    compat.apply()
    from recbole.config import Config
    from recbole.data.dataset import Dataset

    made = ready(name, real_sources)
    settings = {
        "data_path": str(made.folder.parent),
        "load_col": {
            "inter": ["user_id", "item_id", "timestamp"],
            "item": ["item_id", "title", "categories", "attributes"],
        },
    }
    dataset = Dataset(Config(model="Pop", dataset=name, config_dict=settings))
    counts = made.card.counts
    # one more for padding
    assert (dataset.user_num - 1, dataset.item_num - 1, dataset.inter_num) == (
        counts.users,
        counts.items,
        counts.interactions,
    )
    titles = {row[0]: row[1].split() for row in rows(made, f"{name}.item")}
    vocabulary = dataset.field2id_token["title"]
    for place in range(1, dataset.item_num, 97):
        token = dataset.id2token("item_id", place)
        words = [vocabulary[k] for k in dataset.item_feat["title"][place].tolist() if k]
        assert words == titles[token]

"""A made dataset with planted clusters, and the shortest way from it to trained models.

`miniature` is a prepared dataset, `house` the folders of a command, `workshop` makes cells, splits, models
and trainings on the miniature, with everything that a model stands on made once a session.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import settings

# Every run of the suite draws the same examples: a change is blamed for what it broke, not for luck.
# `pytest --hypothesis-profile=wide` goes looking for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("wide", max_examples=1000, deadline=None)
settings.load_profile("same")

CLUSTERS, PER_CLUSTER, USERS = 6, 8, 72
#: What the items of each cluster are called; texts of one cluster share these words and no others.
WORDS = ("nail polish", "hair dryer", "face cream", "shower soap", "eye liner", "beard oil")

GRAPH: dict[str, Any] = {"epochs": 4, "embedding_size": 8, "learning_rate": 0.05, "train_batch_size": 64}
#: Settings that train in well under a second and still learn.
FAST: dict[str, dict[str, Any]] = {
    "Pop": {},
    "BPR": GRAPH,
    "LightGCN": {**GRAPH, "n_layers": 2},
    "XSimGCL": {**GRAPH, "contrast_weight": 0.05},
    "SimGCL": {**GRAPH, "contrast_weight": 0.05, "contrast_reduction": "mean"},
    "SGL": {**GRAPH, "contrast_weight": 0.05, "n_layers": 2},
    "LAGCL4Rec": {**GRAPH, "contrast_weight": 0.05, "rerank": "off", "augment_top": 8},
    "HeLLMPre": {**GRAPH, "train_batch_size": 48, "knn_k": 4, "text_encoder": "tfidf:16", "cl_anchors": 24},
    "SASRec": {
        "epochs": 3, "embedding_size": 8, "inner_size": 16, "learning_rate": 0.02, "train_batch_size": 64,
        "max_history": 6, "hidden_dropout_prob": 0.1, "attn_dropout_prob": 0.1,
    },
    "BERT4Rec": {
        "epochs": 10, "embedding_size": 64, "inner_size": 128, "n_layers": 1, "learning_rate": 0.003,
        "train_batch_size": 16, "max_history": 6, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0,
        "ft_ratio": 1.0,
    },
    "GRU4Rec": {
        "epochs": 4, "embedding_size": 16, "hidden_size": 16, "learning_rate": 0.03, "train_batch_size": 32,
        "max_history": 6, "dropout_prob": 0.1,
    },
    "Caser": {
        "epochs": 3, "embedding_size": 8, "nh": 2, "nv": 2, "learning_rate": 0.05, "train_batch_size": 32,
        "dropout_prob": 0.1,
    },
    "S3Rec": {
        "pretrain_epochs": 1, "epochs": 4, "embedding_size": 8, "inner_size": 16, "learning_rate": 0.02,
        "train_batch_size": 16, "max_history": 6, "item_attribute": "attributes",
        "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0,
    },
    "LLMPNGNN": {
        "epochs": 6, "embedding_size": 8, "learning_rate": 0.02, "train_batch_size": 128, "n_layers": 2,
        "n_negatives": 8, "reg_weight": 0.001,
    },
    "HeLLM": {
        "epochs": 3, "learning_rate": 0.002, "train_batch_size": 32, "max_history": 6, "prefix_length": 3,
        "rows_per_epoch": 0,
    },
    "GALRec": {
        "epochs": 3, "learning_rate": 0.01, "train_batch_size": 32, "max_history": 6, "hop2_cap": 4,
        "hop2_neighbors": 2, "gal_rows": 8, "queue_length": 16, "rows_per_epoch": 0,
    },
}  # fmt: skip
for _name in ("multimodal", "relatives", "prompted", "indexed"):  # others, in files beside this
    FAST |= yaml.safe_load((Path(__file__).parent / f"{_name}.yaml").read_text())
#: Protocol of the models that need ratings; the others run under `seq`.
PROTOCOL = {"LLMPNGNN": "rate", "SiReN": "rate", "LAGCL4Rec": "sign", "RLMRec": "sign"}
#: For all of them: validate every epoch, never stop early.
COMMON: dict[str, Any] = {"eval_step": 1, "stopping_step": 0}


@dataclass
class Miniature:
    """A made dataset, written as RecBole atomic files and prepared by the suite's own road.

    Attributes:
        root: folder of everything below.
        histories: items of each user in order of time.
        card_path: its card, as `--dataset` takes it.
        source: folder of the raw files, as `--source` takes it.
        data: folder of prepared data, as `--data` takes it.
    """

    root: Path
    histories: dict[str, list[str]]

    @property
    def card_path(self) -> Path:
        return self.root / "mini.yaml"

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @cached_property
    def card(self) -> Any:
        from recbole_llmgraph.data.catalogue import dataset_card

        return dataset_card(str(self.card_path))

    @cached_property
    def ready(self) -> Any:
        from recbole_llmgraph.data.prepare import prepare

        return prepare(self.card, self.data, source=self.source)

    def parts(self) -> dict[str, dict[str, Any]]:
        """Leave-one-out by hand: user -> train (list), valid and test item."""
        return {u: {"train": h[:-2], "valid": h[-2], "test": h[-1]} for u, h in self.histories.items()}


def plant(seed: int, *, repeats: bool, users: int = USERS) -> dict[str, list[str]]:
    """Histories that walk around the ring of one cluster; one step in eight goes anywhere.

    With `repeats`, users come back to items they know, as on Yelp.
    """
    rng = np.random.default_rng(seed)
    n_items = CLUSTERS * PER_CLUSTER
    histories: dict[str, list[str]] = {}
    for user in range(users):
        home, step = user % CLUSTERS, int(rng.integers(PER_CLUSTER))
        history: list[int] = [user % n_items]  # so that every item is met
        for _ in range(int(rng.integers(5, 12))):
            step = (step + 1) % PER_CLUSTER
            item = home * PER_CLUSTER + step if rng.random() < 7 / 8 else int(rng.integers(n_items))
            if repeats and rng.random() < 0.25:
                item = history[int(rng.integers(len(history)))]
            if repeats or item not in history:
                history.append(item)
        fresh = iter(rng.permutation(n_items))
        while len(history) < 5:
            item = int(next(fresh))
            history += [item] if item not in history else []
        histories[f"u{user + 1}"] = [f"i{item + 1}" for item in history]
    return histories


def write_miniature(root: Path, histories: dict[str, list[str]], *, images: bool) -> Miniature:
    """Source files and card of a miniature; rated, unless somebody comes back to an item."""
    source = root / "source"
    source.mkdir(parents=True)
    rated = all(len(set(history)) == len(history) for history in histories.values())
    visits = [(u, i, t) for u, history in histories.items() for t, i in enumerate(history)]
    lines = ["\t".join([u, i, *([str(planted_rating(u, i))] if rated else []), str(t)]) for u, i, t in visits]
    rating = ["rating:float"] if rated else []
    head = "\t".join(["user_id:token", "item_id:token", *rating, "timestamp:float"])
    (source / "mini.inter").write_text("\n".join([head, *lines]) + "\n")
    items = sorted({item for history in histories.values() for item in history}, key=lambda i: int(i[1:]))
    lines = ["item_id:token\ttitle:token_seq\tbrand:token\tcategories:token_seq"]
    for item in items:
        cluster, place = divmod(int(item[1:]) - 1, PER_CLUSTER)
        noun = WORDS[cluster].split()[1]
        lines.append(f"{item}\t{WORDS[cluster]} number {place}\tbrand{place % 3}\t{noun}")
    (source / "mini.item").write_text("\n".join(lines) + "\n")
    if images:
        rows = np.random.default_rng(1).normal(size=(len(items), 12)).astype(np.float32)
        np.save(source / "image_feat.npy", rows)
        (source / "image_feat.ids").write_text("\n".join(items) + "\n")
    (root / "mini.yaml").write_text(yaml.safe_dump(_card(histories, items, images, rated)))
    return Miniature(root, histories)


def planted_rating(user: str, item: str) -> int:
    """4 or 5 for items of the user's own cluster, 1 to 3 for others."""
    number = int(item[1:]) - 1
    home = (int(user[1:]) - 1) % CLUSTERS == number // PER_CLUSTER
    return 4 + number % 2 if home else 1 + number % 3


def _card(histories: dict[str, list[str]], items: list[str], images: bool, rated: bool) -> dict[str, Any]:
    pairs = [(user, item) for user, history in histories.items() for item in history]
    sources = [
        {"file": "mini.inter", "holds": ["interactions"], "converter": "recbole"},
        {"file": "mini.item", "holds": ["items"], "converter": "recbole"},
    ]
    if images:
        sources.append({"file": "image_feat.npy", "holds": ["image"], "converter": "npy"})
    return {
        "name": "mini", "title": "made miniature",
        "protocols": ["seq", "rate", "sign"] if rated else ["seq"], "rating_range": [1, 5],
        "counts": {
            "users": len(histories), "items": len(items), "interactions": len(pairs),
            "repeats": len(pairs) - len(set(pairs)),
        },
        "text": ["title", "categories"], "features": ["image"] if images else [], "sources": sources,
        "licence": "made", "citation": "none", "contamination": "none",
    }  # fmt: skip


@dataclass
class Trained:
    """A training and what it left."""

    cell: Any
    split: Any
    model: Any
    trainer: Any
    progress: Any
    judge: Any

    def scores(self, part: str = "test") -> Any:
        """Scores of all items for every row of a part. `[rows, N]`"""
        return all_scores(self.model, getattr(self.split, part))


def all_scores(model: Any, loader: Any) -> Any:
    """`full_sort_predict` over a whole evaluation loader, uncut, in one batch. `[rows, N]`"""
    import torch

    model.eval()
    with torch.no_grad():
        found = loader.collate_fn(np.arange(loader.sample_size))
        interaction = found[0] if isinstance(found, tuple) else found
        return model.full_sort_predict(interaction.to(model.device)).view(len(interaction), -1).clone()


@dataclass
class Workshop:
    """Cells, splits, models and trainings on one miniature, their needs made once."""

    miniature: Miniature
    root: Path
    kept: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def house(self) -> Any:
        from recbole_llmgraph.suite.house import House

        return House(store=self.root, data=self.miniature.data, source=self.miniature.source)

    def cell(
        self, model: str, *, seed: int = 1, protocol: str = "", held_out: bool = True, **changes: Any
    ) -> Any:
        """A cell with fast settings; where a hold-out validates, one that is trained without it."""
        from recbole_llmgraph.host.config import has_hold_out
        from recbole_llmgraph.model.catalogue import model_card
        from recbole_llmgraph.suite.cell import resolve_cell

        overrides = {name: {**COMMON, **values} for name, values in FAST.items()}
        overrides[model] = {**COMMON, **FAST.get(model, {"epochs": 3}), **changes}
        protocol = protocol or PROTOCOL.get(model, "seq")
        cell = resolve_cell(
            model_card(model), self.miniature.card, protocol=protocol, preset="quick", seed=seed,
            overrides=overrides,
        )  # fmt: skip
        return replace(cell, held_out=held_out and has_hold_out(protocol))

    def provided(self, cell: Any) -> Any:
        """The cell with the files that it stands on in its settings."""
        from recbole_llmgraph.suite.provide import with_paths
        from recbole_llmgraph.suite.run import Runner

        given = Runner(self.house).provide(cell)
        return with_paths(cell, given)

    def split(self, cell: Any, before_build: Any = None) -> Any:
        """The split as the cell's model sees it."""
        from recbole_llmgraph.host.dataset import load_split
        from recbole_llmgraph.suite.run import make_cell_config

        config = make_cell_config(cell, cell.settings, self.miniature.ready, "cpu")
        return load_split(config, before_build)

    def train(self, cell: Any, folder: Path, *, before_build: Any = None, on_epoch: Any = None) -> Trained:
        """Train a cell (from `provided`) as the suite does, up to the kept weights."""
        from recbole_llmgraph.suite.run import make_model

        split = self.split(cell, before_build)
        return self.fit(cell, split, make_model(cell, split), folder, on_epoch=on_epoch)

    def fit(self, cell: Any, split: Any, model: Any, folder: Path, *, on_epoch: Any = None) -> Trained:
        """Train this model, from a checkpoint in `folder` when there is one."""
        from recbole_llmgraph.host.evaluation import Judge
        from recbole_llmgraph.train.trainer import Trainer

        judge = Judge(split, accelerate=cell.settings.accelerate)
        trainer = Trainer(
            model, split, cell.settings, folder=folder, seed=cell.seed, on_epoch=on_epoch,
            validate=lambda m: judge(m, "valid").metrics["train"][cell.settings.valid_metric],
            checkpoint_seconds=0.0,
        )  # fmt: skip
        return Trained(cell, split, model, trainer, trainer.fit(), judge)

    def reference(self, model: str, protocol: str = "") -> Trained:
        """The one uninterrupted training of a model; `snapshots` keeps the checkpoint of every epoch."""
        name = model + protocol
        if name not in self.kept:
            folder = self.snapshots(name)
            folder.mkdir(parents=True)

            def keep(entry: dict[str, Any]) -> None:
                done = len(list(folder.glob("*.pt")))
                if (folder / "work" / "checkpoint.pt").exists():
                    shutil.copy(folder / "work" / "checkpoint.pt", folder / f"{done + 1}.pt")

            cell = self.provided(self.cell(model, protocol=protocol))
            self.kept[name] = self.train(cell, folder / "work", on_epoch=keep)
        return self.kept[name]

    def snapshots(self, model: str) -> Path:
        """Folder of `1.pt`, `2.pt` …: the checkpoint as it lay after that many epochs."""
        return self.root / "snapshots" / model


@pytest.fixture(scope="session")
def make_miniature(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Miniature]:
    """Function: switches of `plant` and `write_miniature` -> miniature, each made once a session."""
    made: dict[Any, Miniature] = {}

    def make(*, seed: int = 3, repeats: bool = False, images: bool = False, **plan: Any) -> Miniature:
        key = (seed, repeats, images, *sorted(plan.items()))
        if key not in made:
            root = tmp_path_factory.mktemp("miniature")
            made[key] = write_miniature(root, plant(seed, repeats=repeats, **plan), images=images)
        return made[key]

    return make


@pytest.fixture(scope="session")
def miniature(make_miniature: Callable[..., Miniature]) -> Miniature:
    """72 users, 48 items, six clusters."""
    return make_miniature()


@pytest.fixture(scope="session")
def workshop(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Trainings on the miniature."""
    return Workshop(miniature, tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def make_workshop(
    make_miniature: Callable[..., Miniature], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Workshop]:
    """Function: switches of a miniature -> its workshop."""
    return lambda **plan: Workshop(make_miniature(**plan), tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def house(miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Folders of one command, with an empty store."""
    from recbole_llmgraph.suite.house import House

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECBOLE_LLMGRAPH_ARTIFACTS", raising=False)
    yield House(store=tmp_path / "runs", data=miniature.data, source=miniature.source)


@pytest.fixture(scope="session")
def command_line(miniature: Miniature) -> Callable[..., list[str]]:
    """Function: models, store, more -> arguments of run.py that train on the miniature with fast settings."""
    where = [f"--dataset={miniature.card_path}", f"--data={miniature.data}", f"--source={miniature.source}"]

    def made(models: str, store: Path, *rest: str) -> list[str]:
        stages = {"HeLLM": ["HeLLMPre", "SASRec"], "LLMPNGNN": ["LightGCN"]}
        named = [name for model in models.split(",") for name in (model, *stages.get(model, []))]
        asked = [(name, {**COMMON, **FAST.get(name, {})}) for name in named]
        sets = [f"--set={name}.{key}={value}" for name, values in asked for key, value in values.items()]
        return [f"--model={models}", *where, f"--store={store}", "--preset=quick", *sets, *rest]

    return made


def same_weights(one: Any, other: Any) -> list[str]:
    """Names of weights and buffers that are not equal to the bit."""
    import torch

    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


@pytest.fixture(scope="session")
def differing() -> Callable[[Any, Any], list[str]]:
    """Function: two models -> names of the weights in which they differ by any bit."""
    return same_weights


@pytest.fixture(scope="session")
def scored() -> Callable[[Any, Any], Any]:
    """Function: model and loader -> scores of all items for every row."""
    return all_scores

"""A made miniature of an Amazon category, in every form in which users hold one."""

import gzip
import importlib.util
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

REVIEWS = [
    # reviewer, asin, time: sorted by asin as McAuley's files are; ties in time inside a history on purpose
    ("RA", "B000000001", 300), ("RB", "B000000001", 100), ("RC", "B000000001", 50),
    ("RB", "B000000002", 100), ("RA", "B000000002", 200), ("RC", "B000000002", 60),
    ("RA", "B000000003", 300), ("RC", "B000000003", 10), ("RB", "B000000003", 900),
    ("RA", "B000000004", 100),
]  # fmt: skip
META: list[dict[str, Any]] = [
    {"asin": "B000000001", "title": 'The "Big" Brush\t3"\nnew', "brand": "Dr. Scholl&#39;s",
     "categories": [["Beauty", "Hair Care"], ["Beauty", "Tools"]], "description": "It's\ngood"},
    {"asin": "B000000002", "title": "None", "categories": [["Beauty", "Women's"]], "price": 3.5},
    {"asin": "B000000003", "title": "Soap &amp; Water", "brand": "Acme",
     "categories": [["Beauty", "Hair Care"]]},
    {"asin": "B000000009", "title": "Nobody bought this", "categories": [["Beauty"]]},
    {"asin": "B000000004", "brand": '"Quoted"', "categories": [["Beauty", "Hair Care", "Soap"]]},
]  # fmt: skip
ATTRIBUTES = {"1": [3, 1], "2": [1], "3": [2, 2], "4": [1, 4]}


def s3rec(reviews: Iterable[tuple[str, str, int]]) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
    """S3-Rec's own steps, written plainly: sequences by user id, and the id maps."""
    histories: dict[str, list[tuple[str, int]]] = {}
    for user, item, time in reviews:
        histories.setdefault(user, []).append((item, time))
    maps: dict[str, dict[str, str]] = {"user2id": {}, "item2id": {}}
    sequences: dict[str, list[str]] = {}
    for user, visits in histories.items():
        user_id = maps["user2id"][user] = str(len(maps["user2id"]) + 1)
        sequences[user_id] = []
        for item, _ in sorted(visits, key=lambda visit: visit[1]):
            if item not in maps["item2id"]:
                maps["item2id"][item] = str(len(maps["item2id"]) + 1)
            sequences[user_id].append(maps["item2id"][item])
    return sequences, maps


class Shop:
    """Writes the miniature's files into a folder, and cards that name them."""

    def __init__(self, folder: Path, reviews: list[tuple[str, str, int]] = REVIEWS) -> None:
        self.folder = folder
        self.reviews = reviews
        self.sequences, self.maps = s3rec(reviews)
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, content: str | bytes) -> Path:
        """One file; `.gz` is packed."""
        data = content.encode() if isinstance(content, str) else content
        path = self.folder / name
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        return path

    def write_sequences(self, name: str = "Mini.txt") -> Path:
        return self.write(
            name, "".join(f"{user} {' '.join(items)}\n" for user, items in self.sequences.items())
        )

    def write_maps(self, name: str = "datamaps.json") -> Path:
        return self.write(name, json.dumps(self.maps))

    def write_attributes(self) -> Path:
        kept = {item: ids for item, ids in ATTRIBUTES.items() if item in self.maps["item2id"].values()}
        return self.write("Mini_item2attributes.json", json.dumps(kept))

    def write_reviews(self, name: str = "reviews_Mini_5.json.gz") -> Path:
        rows = (
            {
                "reviewerID": user,
                "asin": item,
                "overall": 5.0,
                "unixReviewTime": time,
                "reviewText": "it's ok",
            }
            for user, item, time in self.reviews
        )
        return self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def write_meta(self, name: str = "meta_Mini.json.gz") -> Path:
        return self.write(name, "".join(repr(row) + "\n" for row in META))

    def write_recbole_items(self, name: str = "Mini.item") -> Path:
        """The same items as RecBole's published Amazon files have them: csv quoting, bare lists."""
        import csv
        import io

        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t", lineterminator="\n")
        writer.writerow(
            ["item_id:token", "title:token", "categories:token_seq", "price:float", "brand:token"]
        )
        for row in META:
            names = list(dict.fromkeys(name for path in row["categories"] for name in path))
            cells = [row.get("title", ""), repr(names)[1:-1], row.get("price", ""), row.get("brand", "")]
            writer.writerow([row["asin"], *cells])
        return self.write(name, text.getvalue())

    def write_images(self, name: str = "image_features_Mini.b", width: int = 4096) -> np.ndarray:
        rows = np.random.default_rng(0).normal(size=(len(META), width)).astype("<f4")
        pairs = zip(META, rows, strict=True)
        self.write(name, b"".join(row["asin"].encode() + vector.tobytes() for row, vector in pairs))
        return rows

    def all_of_s3rec(self) -> None:
        """Sequences, maps, attributes, item file: the road of the published files."""
        self.write_sequences()
        self.write_maps()
        self.write_attributes()
        self.write_recbole_items()

    def card(self, **changes: Any) -> Path:
        """A card of the miniature, as a yaml file."""
        items = len(self.maps["item2id"])
        values: dict[str, Any] = {
            "name": "mini",
            "title": "made miniature",
            "protocols": ["seq"],
            "counts": {"users": len(self.sequences), "items": items, "interactions": len(self.reviews)},
            "text": ["title", "brand", "categories"],
            "text_fallback": ["keywords"],
            "features": ["image"],
            "licence": "made",
            "citation": "none",
            "contamination": "none",
            "sources": SOURCES,
        }
        values["counts"]["repeats"] = len(self.reviews) - len({(u, i) for u, i, _ in self.reviews})
        values.update(changes)
        path = self.folder.parent / "mini.yaml"
        path.write_text(yaml.safe_dump(values))
        return path


SOURCES: list[dict[str, Any]] = [
    {"file": "Mini.txt", "holds": ["interactions"], "converter": "s3rec"},
    {"file": "Mini_item2attributes.json", "holds": ["attributes"], "converter": "s3rec", "optional": True},
    {"file": "datamaps.json", "holds": ["ids"], "converter": "s3rec", "optional": True},
    {"file": "reviews_Mini_5.json", "holds": ["interactions", "times", "ids"], "converter": "mcauley",
     "raw_ids": True, "optional": True},
    {"file": "Mini.item", "holds": ["items"], "converter": "recbole", "raw_ids": True, "optional": True},
    {"file": "meta_Mini.json", "holds": ["items"], "converter": "mcauley", "raw_ids": True, "optional": True},
    {"file": "mini.items.tsv", "holds": ["items"], "converter": "joined", "optional": True,
     "provenance_unknown": ["keywords"]},
    {"file": "mini.inter", "holds": ["times"], "converter": "joined", "optional": True},
    {"file": "image_features_Mini.b", "holds": ["image"], "converter": "mcauley", "raw_ids": True,
     "optional": True},
    {"file": "image_feat.npy", "holds": ["image"], "converter": "npy", "raw_ids": True,
     "rows": "i_id_mapping.csv", "optional": True},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a test names is a source: no real folders, no cache of this user."""
    monkeypatch.delenv("RECBOLE_LLMGRAPH_SOURCES", raising=False)
    monkeypatch.setenv("RECBOLE_LLMGRAPH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "source")


@pytest.fixture
def make_shop(tmp_path: Path) -> Callable[..., Shop]:
    def make(name: str, reviews: list[tuple[str, str, int]] = REVIEWS) -> Shop:
        return Shop(tmp_path / name / "source", reviews)

    return make


@pytest.fixture(scope="session")
def real_sources() -> Path:
    """The folder with the real datasets, or a skip."""
    named = os.environ.get("RECBOLE_LLMGRAPH_SOURCES", "").split(os.pathsep)[0]
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data: set RECBOLE_LLMGRAPH_SOURCES to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def command() -> Callable[[list[str]], int]:
    """`main` of benchmarks/prepare.py."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "prepare.py"
    spec = importlib.util.spec_from_file_location("prepare_command", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[list[str]], int] = module.main
    return main

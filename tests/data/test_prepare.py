"""The prepared folder: whole or absent, made once, told in its manifest."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.data.prepare import prepare, prepared


@pytest.fixture
def card(shop):
    shop.all_of_s3rec()
    return dataset_card(str(shop.card()))


def listing(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_the_second_call_changes_nothing_and_needs_no_source(card, shop, tmp_path) -> None:
    first = prepare(card, tmp_path / "data", source=shop.folder)
    before = listing(first.folder)
    for path in shop.folder.iterdir():
        path.unlink()
    begun = time.process_time()
    second = prepare(card, tmp_path / "data")
    assert time.process_time() - begun < 0.5
    assert listing(second.folder) == before
    assert second == first == prepared(card, tmp_path / "data")


def test_force_makes_it_anew_with_the_same_bytes(card, shop, tmp_path) -> None:
    first = prepare(card, tmp_path / "data", source=shop.folder)
    before = listing(first.folder)
    again = prepare(card, tmp_path / "data", source=shop.folder, force=True)
    after = listing(again.folder)
    assert {name: data for name, (_, data) in after.items()} == {
        name: data for name, (_, data) in before.items()
    }
    assert after["mini.inter"][0] > before["mini.inter"][0]


def test_the_manifest_tells_hashes_counts_and_sources(card, shop, tmp_path) -> None:
    made = prepare(card, tmp_path / "data", source=shop.folder)
    manifest = made.manifest
    assert manifest["counts"] == {"users": 3, "items": 4, "interactions": 10, "repeats": 0}
    for name, entry in manifest["outputs"].items():
        assert hashlib.sha256((made.folder / name).read_bytes()).hexdigest() == entry["sha256"]
    assert set(manifest["outputs"]) == {"mini.inter", "mini.item", "item_text.jsonl"}
    used = {(entry["holds"], entry["file"]): entry for entry in manifest["sources"]}
    assert set(used) == {
        ("interactions", "Mini.txt"), ("ids", "datamaps.json"), ("items", "Mini.item"),
        ("attributes", "Mini_item2attributes.json"),
    }  # fmt: skip
    sequences = (shop.folder / "Mini.txt").read_bytes()
    assert used["interactions", "Mini.txt"]["sha256"] == hashlib.sha256(sequences).hexdigest()
    assert "Mini.item: 1 listed items have no interaction and are left out" in manifest["notes"]
    assert any(note.startswith("features: no image features") for note in manifest["notes"])
    assert str(tmp_path) not in json.dumps(manifest), "a manifest must not name this machine's folders"


def test_the_hash_is_of_the_uncompressed_bytes(shop, tmp_path) -> None:
    path = shop.write_sequences("Mini.txt.gz")
    import gzip

    digest = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    source = {"file": "Mini.txt", "holds": ["interactions"], "converter": "s3rec", "sha256": digest}
    card = dataset_card(str(shop.card(sources=[source])))
    assert prepare(card, tmp_path / "data", source=shop.folder).manifest["sources"][0]["sha256"] == digest


def test_another_card_under_the_same_name_is_prepared_anew(card, shop, tmp_path) -> None:
    first = prepare(card, tmp_path / "data", source=shop.folder)
    changed = dataset_card(str(shop.card(text=["title"])))
    assert prepared(changed, tmp_path / "data") is None
    second = prepare(changed, tmp_path / "data", source=shop.folder)
    assert second.fingerprint == first.fingerprint
    assert second.manifest["recipe"] != first.manifest["recipe"]


@pytest.mark.parametrize("damage", ["cut", "remove", "manifest"])
def test_a_damaged_folder_is_not_ready_and_is_mended(card, shop, tmp_path, damage: str) -> None:
    made = prepare(card, tmp_path / "data", source=shop.folder)
    whole = (made.folder / "mini.inter").read_bytes()
    if damage == "cut":
        (made.folder / "mini.inter").write_bytes(whole[:-5])
    elif damage == "remove":
        (made.folder / "mini.inter").unlink()
    else:
        (made.folder / "manifest.json").write_text('{"name": ')
    assert prepared(card, tmp_path / "data") is None
    assert (prepare(card, tmp_path / "data", source=shop.folder).folder / "mini.inter").read_bytes() == whole


def test_a_folder_of_the_users_own_is_never_removed(card, shop, tmp_path) -> None:
    own = tmp_path / "data" / "mini" / "mini.inter"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    with pytest.raises(UserError, match="holds files that prepare did not write; move it away"):
        prepare(card, tmp_path / "data", source=shop.folder, force=True)
    assert own.read_text() == "mine"


def test_sources_from_the_environment_in_their_order(card, shop, make_shop, tmp_path, monkeypatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("RECBOLE_LLMGRAPH_SOURCES", f"{empty}{os.pathsep}{shop.folder}")
    assert prepare(card, tmp_path / "data").manifest["counts"]["users"] == 3
    broken = make_shop("broken")
    broken.write("Mini.txt", "1\n")
    with pytest.raises(UserError, match="user 1 has no items"):
        prepare(card, tmp_path / "data", source=broken.folder, force=True)


def test_a_sub_folder_named_like_the_dataset_goes_first(shop, tmp_path) -> None:
    shop.all_of_s3rec()
    inner = shop.folder / "Some_Shop"
    inner.mkdir()
    (shop.folder / "Mini.txt").rename(inner / "Mini.txt")
    shop.write("Mini.txt", "9\n")
    card = dataset_card(str(shop.card(aliases=["Some_Shop"])))
    assert prepare(card, tmp_path / "data", source=shop.folder).manifest["counts"]["users"] == 3


@pytest.mark.parametrize("where", ["option", "variable"])
def test_a_source_folder_that_is_not_there(card, tmp_path, monkeypatch, where: str) -> None:
    missing = tmp_path / "nowhere"
    if where == "variable":
        monkeypatch.setenv("RECBOLE_LLMGRAPH_SOURCES", str(missing))
    with pytest.raises(UserError, match="nowhere: no such folder"):
        prepare(card, tmp_path / "data", source=missing if where == "option" else None)


def test_two_processes_may_prepare_at_once(card, shop, tmp_path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: prepare(card, tmp_path / "data", source=shop.folder), range(4)))
    assert {each.fingerprint for each in made} == {made[0].fingerprint}
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mini"]


def test_attributes_without_a_file_are_brand_and_categories(shop, tmp_path) -> None:
    shop.write_sequences()
    shop.write_maps()
    shop.write_meta()
    made = prepare(dataset_card(str(shop.card())), tmp_path / "data", source=shop.folder)
    rows = [line.split("\t") for line in (made.folder / "mini.item").read_text().splitlines()]
    # 'Beauty' stands on all four items and tells nothing
    assert [row[-1] for row in rows[1:]] == [
        "'Quoted' Hair_Care Soap",
        "Women's",
        "Dr._Scholl's Hair_Care Tools",
        "Acme Hair_Care",
    ]
    assert "attributes: brand and categories of the item side" in made.manifest["notes"]

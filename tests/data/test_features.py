"""Side tables: image features by item token, item texts."""

import json

import numpy as np
import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.data.prepare import prepare
from recbole_llmgraph.data.side import (
    default_fields,
    feature_file,
    item_feature,
    item_texts,
    unknown_provenance,
)

KEYWORDS = "item_id\tidgenrec_words\n" + "".join(f"{k}\tword{k}\n" for k in range(1, 5))


def made(shop, tmp_path, **changes):
    return prepare(dataset_card(str(shop.card(**changes))), tmp_path / "data", source=shop.folder)


def asins(shop) -> dict[str, str]:
    return {token: asin for asin, token in shop.maps["item2id"].items()}


def test_mcauley_images_are_keyed_by_item(shop, tmp_path) -> None:
    shop.all_of_s3rec()
    rows = shop.write_images()
    prepared = made(shop, tmp_path)
    found = item_feature(prepared, "image")
    assert found is not None
    tokens, matrix = found
    assert tokens == ["1", "2", "3", "4"]
    assert matrix.shape == (4, 4096) and matrix.dtype == np.float32
    order = ["B000000001", "B000000002", "B000000003", "B000000009", "B000000004"]
    for token, vector in zip(tokens, matrix, strict=True):
        assert np.array_equal(vector, rows[order.index(asins(shop)[token])])
    assert "image: rows for 4 of 4 items" in prepared.manifest["notes"]
    assert "features/image.safetensors" in prepared.manifest["outputs"]


def test_models_read_the_feature_file_as_a_table(shop, tmp_path) -> None:
    from recbole_llmgraph.artifact.tables import load_table

    shop.all_of_s3rec()
    shop.write_images()
    prepared = made(shop, tmp_path)
    path, found = feature_file(prepared, "image"), item_feature(prepared, "image")
    assert path is not None and found is not None
    table = load_table(path)
    assert table.tokens == found[0]
    assert np.array_equal(table.rows.numpy(), found[1])
    before = path.read_bytes()
    prepare(prepared.card, tmp_path / "data", source=shop.folder, force=True)
    assert path.read_bytes() == before


def test_mmrec_matrix_equals_the_raw_file(make_shop, tmp_path) -> None:
    raw, matrix = make_shop("raw"), make_shop("matrix")
    raw.all_of_s3rec()
    matrix.all_of_s3rec()
    rows = raw.write_images()
    order = ["B000000001", "B000000002", "B000000003", "B000000009", "B000000004"]
    np.save(matrix.folder / "image_feat.npy", rows[[4, 0, 1, 2, 3]].astype(np.float64))
    lines = "".join(f"{asin}\t{(place + 1) % 5}\n" for place, asin in enumerate(order))
    matrix.write("i_id_mapping.csv", "asin\titemID\n" + lines)
    one, two = (
        item_feature(made(raw, tmp_path / "a"), "image"),
        item_feature(made(matrix, tmp_path / "b"), "image"),
    )
    assert one is not None and two is not None
    assert one[0] == two[0]
    assert np.array_equal(one[1], two[1])


def test_a_plain_id_list_and_missing_items(shop, tmp_path) -> None:
    shop.all_of_s3rec()
    np.save(shop.folder / "image_feat.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    shop.write("ids.txt", "3\n1\n99\n")
    sources = [
        {"file": "Mini.txt", "holds": ["interactions"], "converter": "s3rec"},
        {"file": "image_feat.npy", "holds": ["image"], "converter": "npy", "rows": "ids.txt"},
    ]
    prepared = made(shop, tmp_path, sources=sources)
    found = item_feature(prepared, "image")
    assert found is not None
    assert found[0] == ["1", "3"]
    assert found[1].tolist() == [[2, 3], [0, 1]]
    assert "image: rows for 2 of 4 items" in prepared.manifest["notes"]


def test_without_images_the_manifest_says_so(shop, tmp_path) -> None:
    shop.all_of_s3rec()
    prepared = made(shop, tmp_path)
    assert item_feature(prepared, "image") is None
    assert any("models that fuse them use text alone" in note for note in prepared.manifest["notes"])
    with pytest.raises(UserError, match="Did you mean 'image'"):
        item_feature(prepared, "imgae")


def test_a_damaged_feature_file_is_named(shop, tmp_path) -> None:
    shop.all_of_s3rec()
    shop.write_images()
    prepared = made(shop, tmp_path)
    path = prepared.folder / "features" / "image.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"image.safetensors: is damaged .* --force"):
        item_feature(prepared, "image")


def test_texts_of_the_default_fields(shop, tmp_path) -> None:
    shop.all_of_s3rec()
    texts = item_texts(made(shop, tmp_path))
    assert texts == {
        "1": '"Quoted" Beauty, Hair Care, Soap',
        "2": "None Beauty, Women's",
        "3": 'The "Big" Brush 3" new Dr. Scholl\'s Beauty, Hair Care, Tools',
        "4": "Soap & Water Acme Beauty, Hair Care",
    }


def test_chosen_fields_and_items_without_them(shop, tmp_path) -> None:
    shop.write_sequences()
    shop.write_maps()
    shop.write_meta()
    prepared = made(shop, tmp_path)
    assert item_texts(prepared, ["description"]) == {"1": "", "2": "", "3": "It's good", "4": ""}
    assert item_texts(prepared, ["brand", "title"])["4"] == "Acme Soap & Water"
    with pytest.raises(UserError, match="Did you mean 'title'"):
        item_texts(prepared, ["titel"])


def test_key_words_are_a_fallback_and_marked(make_shop, tmp_path) -> None:
    bare, texted = make_shop("bare"), make_shop("texted")
    bare.write_sequences()
    texted.all_of_s3rec()
    for shop in (bare, texted):
        shop.write("mini.items.tsv", KEYWORDS)
    one, two = made(bare, tmp_path / "a"), made(texted, tmp_path / "b")
    assert default_fields(one) == ["keywords"]
    assert item_texts(one)["2"] == "word2"
    assert unknown_provenance(one) == ["keywords"]
    assert any("models read keywords instead" in note for note in one.manifest["notes"])
    assert default_fields(two) == ["title", "brand", "categories"]
    assert unknown_provenance(two) == []
    assert unknown_provenance(two, ["keywords"]) == ["keywords"]
    assert two.manifest["provenance_unknown"] == ["keywords"]
    for prepared in (one, two):
        assert "keywords" not in (prepared.folder / "mini.item").read_text()


def test_brand_is_told_from_categories(shop, tmp_path) -> None:
    shop.write_sequences()
    shop.write(
        "mini.items.tsv",
        "item_id\tbrand_and_categories\n1\tAcme | Tools | Saws\n2\tTools | Saws\n3\tTools\n4\t\n",
    )
    prepared = made(shop, tmp_path)
    lines = [json.loads(line) for line in (prepared.folder / "item_text.jsonl").read_text().splitlines()]
    assert lines == [
        {"item_id": "1", "brand": "Acme", "categories": ["Tools", "Saws"]},
        {"item_id": "2", "categories": ["Tools", "Saws"]},
        {"item_id": "3", "categories": ["Tools"]},
        {"item_id": "4"},
    ]


def test_a_field_comes_whole_from_the_first_file_that_has_it(shop, tmp_path) -> None:
    """Item 1 has no title in the first file: the second file's titles are not mixed in."""
    shop.all_of_s3rec()
    shop.write("mini.items.tsv", "item_id\ttitle\tidgenrec_words\n1\tOther title\tword1\n")
    prepared = made(shop, tmp_path)
    assert item_texts(prepared, ["title"])["1"] == ""
    assert item_texts(prepared, ["keywords"])["1"] == "word1"

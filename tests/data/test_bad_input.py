"""Malformed input: one line that names file, line and mend, exit code 2, nothing half-written."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

Bad = tuple[Callable[[Any], object], dict[str, Any], str]
RATED = {"protocols": ["seq", "rate"], "rating_range": [1, 5], "features": []}
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
GOOD = "".join(f"u{u}\ti{i}\t4\t{i}\n" for u in (1, 2) for i in (1, 2, 3))
COUNTS = {"users": 2, "items": 3, "interactions": 6}


def interactions(converter: str, file: str, **more: Any) -> dict[str, Any]:
    return {"sources": [{"file": file, "holds": ["interactions"], "converter": converter, **more}]}


def atomic(text: str, expected: str, **changes: Any) -> Bad:
    """A RecBole file with ratings."""
    return (
        lambda shop: shop.write("m.inter", text),
        {**interactions("recbole", "m.inter"), "counts": COUNTS, **RATED, **changes},
        expected,
    )


def sequences(text: str | bytes, expected: str, **changes: Any) -> Bad:
    return lambda shop: shop.write("Mini.txt", text), changes, expected


def beside(name: str, text: str | bytes, expected: str) -> Bad:
    """Whole sequences and maps, and one bad file more."""

    def write(shop: Any) -> None:
        shop.write_sequences()
        if name != "datamaps.json":
            shop.write_maps()
        if name.endswith(".b") or name == "datamaps.json":
            shop.write_recbole_items()
        shop.write(name, text)

    return write, {}, expected


def cut(name: str) -> Callable[[Any], None]:
    def write(shop: Any) -> None:
        path = getattr(shop, f"write_{name}")(
            f"{'Mini.txt' if name == 'sequences' else 'reviews_Mini_5.json'}.gz"
        )
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - 12])

    return write


def folder_for_file(shop: Any) -> None:
    (shop.folder / "Mini.txt").mkdir()


def hostile_zip(shop: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ml/ratings.dat", "1::2::3::4\n")
        archive.writestr("../../evil.txt", "x")
    shop.write("ml.zip", packed.getvalue())


def zip_without(shop: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ml/other.dat", "1::2::3::4\n")
    shop.write("ml.zip", packed.getvalue())


def maps_without_an_item(shop: Any) -> None:
    del shop.maps["item2id"]["B000000003"]
    shop.write_maps()
    shop.write_reviews()


def images(change: Callable[[bytes], bytes]) -> Callable[[Any], None]:
    def write(shop: Any) -> None:
        shop.all_of_s3rec()
        shop.write_images()
        path = shop.folder / "image_features_Mini.b"
        path.write_bytes(change(path.read_bytes()))

    return write


def matrix(rows: np.ndarray, ids: str | None) -> Callable[[Any], None]:
    def write(shop: Any) -> None:
        shop.all_of_s3rec()
        with (shop.folder / "image_feat.npy").open("wb") as stream:
            np.save(stream, rows)
        if ids is not None:
            shop.write("i_id_mapping.csv", ids)

    return write


def nan_in(data: bytes) -> bytes:
    return data[:10] + np.float32("nan").tobytes() + data[14:]


def late_times(shop: Any) -> None:
    shop.all_of_s3rec()
    shop.write(
        "mini.inter", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t5\n1\t1\t6\n1\t3\t7\n1\t4\t8\n"
    )


IDS = "asin\titemID\n" + "".join(f"B00000000{k}\t{k - 1}\n" for k in (1, 2, 3, 4))
ZIPPED = {**interactions("movielens", "ratings.dat", archive="ml.zip"), "counts": COUNTS, **RATED}
DAT = {**interactions("movielens", "ratings.dat"), "counts": COUNTS, **RATED}
CASES: dict[str, Bad] = {
    # files that are not what their name says
    "truncated gzip": (cut("sequences"), {}, "Mini.txt.gz: is cut short"),
    "truncated gzip of reviews": (cut("reviews"), {}, "reviews_Mini_5.json.gz: is cut short"),
    "gzip that is no gzip": (
        lambda shop: shop.write("Mini.txt.gz", "").write_bytes(b"1 2 3 4\n"), {}, "no whole gzip",
    ),
    "gzip with another file behind it": (
        lambda shop: shop.write("Mini.txt.gz", "").write_bytes(gzip.compress(b"1 2 3 4\n") + b"junk"),
        {},
        "Mini.txt.gz: is no whole gzip",
    ),
    "empty file": sequences("", "Mini.txt: is empty"),
    "folder where a file should be": (folder_for_file, {}, "is a folder where a file should be"),
    "wrong SHA-256": sequences(
        "1 2 3 4\n", "Mini.txt: SHA-256 is", **interactions("s3rec", "Mini.txt", sha256="0" * 64)
    ),
    "zip that leads outside": (hostile_zip, ZIPPED, "'../../evil.txt', which leads out"),
    "zip without the file": (zip_without, ZIPPED, "holds no ratings.dat"),
    "zip that is none": (lambda shop: shop.write("ml.zip", "PK nothing"), ZIPPED, "no whole zip archive"),
    # sequences
    "not UTF-8": sequences(b"1 2 3 4\n2 5 \xff 6\n", "Mini.txt:2: not UTF-8"),
    "user without items": sequences("1 2 3 4\n2\n", "Mini.txt:2: user 2 has no items"),
    "blank line": sequences("1 2 3 4\n\n2 2 3 4\n", "Mini.txt:2: an empty line"),
    "duplicated user line": sequences("1 2 3 4\n2 2 3 4\n1 3 4 5\n", "Mini.txt:3: user 1 stands in line 1"),
    "tab in a line": sequences("1 2\t3 4\n", "Mini.txt:1: a tab"),
    "two blanks": sequences("1 2  3 4\n", "Mini.txt:1: '' cannot be an id"),
    "id that reads as missing": sequences("1 2 NA 4\n", "Mini.txt:1: 'NA' cannot be an id"),
    "id that is RecBole's padding": sequences("[PAD] 2 3 4\n", "'[PAD]' cannot be an id"),
    "user with two interactions": sequences("1 2 3 4\n7 2 3\n", "Mini.txt:2: user 7 has 2 interactions"),
    "another count than the card's": sequences("1 1 2 3\n2 1 2 3\n3 1 2 3\n", "items where the card has 4"),
    # atomic files
    "missing header": atomic(GOOD, "m.inter:1: no header"),
    "unknown column type": atomic(INTER.replace("rating:float", "rating:number") + GOOD, "'rating:number'"),
    "header without items": atomic("user_id:token\trating:float\n1\t2\n", "lacks 'item_id:token'"),
    "wrong column count": atomic(INTER + GOOD + "u1\ti9\t4\n", "m.inter:8: 3 columns where the header has 4"),
    "time that is NaN": atomic(INTER + "u1\ti1\t4\tnan\n", "m.inter:2: the time 'nan'"),
    "negative time": atomic(INTER + "u1\ti1\t4\t-5\n", "m.inter:2: the time '-5'"),
    "time that is no number": atomic(INTER + "u1\ti1\t4\tlater\n", "the time 'later' is no number"),
    "rating out of range": atomic(INTER + "u1\ti1\t6\t5\n", "m.inter:2: the rating 6 is not in 1..5"),
    "rating below the range": atomic(INTER + "u1\ti1\t0\t5\n", "m.inter:2: the rating 0 is not in 1..5"),
    "rating that is no number": atomic(INTER + "u1\ti1\tgood\t5\n", "the rating 'good' is no number"),
    "rating that is NaN": atomic(INTER + "u1\ti1\tnan\t5\n", "the rating nan is not in 1..5"),
    "same rating twice": atomic(INTER + GOOD + "u1\ti1\t4\t9\n", "m.inter:8: user u1 rates item i1 a second"),
    "quote that never ends": atomic(INTER + '"u1\ti1\t4\t5\n' + GOOD, "columns where the header has 4"),
    "quoted field beyond any size": atomic(
        INTER + GOOD + '"' + "x" * 140_000 + "\n", "m.inter:8: a quoted field does not end"
    ),
    "no ratings where they are needed": atomic(
        INTER.replace("rating:float\t", "") + "u1\ti1\t5\n", "has no ratings"
    ),
    "MovieLens line with three columns": (
        lambda shop: shop.write("ratings.dat", "1::2::3::4\n1::2::3\n"), DAT, "ratings.dat:2: 3 columns",
    ),
    # ids, attributes, items
    "maps without an item": (maps_without_an_item, {}, "has no id for item B000000003"),
    "JSON cut in the middle": beside(
        "datamaps.json", '{"user2id": {"RA": "1"', "datamaps.json:1: not valid JSON"
    ),
    "maps without users": beside("datamaps.json", '{"item2id": {"a": "1"}}', "holds no 'user2id'"),
    "maps that give one id twice": beside(
        "datamaps.json", '{"user2id": {"a": "1"}, "item2id": {"a": "1", "b": "1"}}', "one id to two names"
    ),
    "attributes of an unknown item": beside(
        "Mini_item2attributes.json", '{"99": [1]}', "item 99 has no interaction"
    ),
    "attributes that are no list": beside(
        "Mini_item2attributes.json", '{"1": "red"}', "no list of whole numbers"
    ),
    "item table with an unknown item": beside(
        "mini.items.tsv", "item_id\ttitle\n1\tA\n77\tB\n", "mini.items.tsv:3: item 77 has no interaction"
    ),
    "item listed twice": beside(
        "mini.items.tsv", "item_id\ttitle\n1\tA\n1\tB\n", "mini.items.tsv:3: item 1 stands in the file twice"
    ),
    "item table without its header": beside("mini.items.tsv", "1\tA\n", "mini.items.tsv:1: the header lacks"),
    "review cut in the middle": (
        lambda shop: shop.write("reviews_Mini_5.json", '{"reviewerID": "RA", "asin": "B0'),
        {},
        "reviews_Mini_5.json:1: this line is no whole review",
    ),
    "review without an item": (
        lambda shop: shop.write("reviews_Mini_5.json", '{"reviewerID": "RA", "unixReviewTime": 3}\n'),
        {},
        "reviews_Mini_5.json:1: no 'asin'",
    ),
    "tab in an ASIN": (
        lambda shop: shop.write(
            "reviews_Mini_5.json", json.dumps({"reviewerID": "R", "asin": "B\t1", "unixReviewTime": 3}) + "\n"
        ),
        {},
        "the id 'B\\t1' holds white space",
    ),
    "metadata that calls a function": beside(
        "meta_Mini.json", "{'asin': 'B000000001', 'title': open('x')}\n", "meta_Mini.json:1: this line is no"
    ),
    "raw items without maps": (
        lambda shop: (shop.write_sequences(), shop.write_recbole_items()), {}, "no file maps them",
    ),
    "times in another order": (late_times, {}, "visit 1 of user 1 is not item 1"),
    # features
    "image record cut short": (images(lambda data: data[:-7]), {}, "record 5 is cut short (16387 of 16394"),
    "image features with NaN": (images(nan_in), {}, "Mini.b:1: the features of item B000000001"),
    "images of other items": (images(lambda data: b"X" * len(data)), {}, "no row for any item"),
    "more ids than rows": (matrix(np.ones((3, 2)), IDS), {}, "3 rows where i_id_mapping.csv names 4"),
    "matrix without ids": (matrix(np.ones((4, 2)), None), {}, "i_id_mapping.csv: no such file"),
    "matrix with NaN": (matrix(np.full((4, 2), np.nan), IDS), {}, "item B000000001 hold a value"),
    "matrix of whole numbers": (matrix(np.ones((4, 2), int), IDS), {}, "expected a matrix of floats"),
    "matrix that is none": beside("image_feat.npy", b"\x93NUMPY junk", "image_feat.npy:"),
    # cards
    "unknown key in a card": ((lambda shop: None), {"licenze": "x"}, "'licenze'. Did you mean 'licence'?"),
    "unknown key in a source": (
        (lambda shop: None), interactions("s3rec", "Mini.txt", shasum="1"), "setting of",
    ),
    "unknown converter": ((lambda shop: None), interactions("xml", "Mini.txt"), "converter='xml'"),
    "card without interactions": (
        (lambda shop: None),
        {"sources": [{"file": "m", "holds": ["items"], "converter": "joined"}]},
        "no source holds the interactions",
    ),
    "hash that is none": ((lambda shop: None), interactions("s3rec", "Mini.txt", sha256="12"), "sha256='12'"),
    "rated card without a range": ((lambda shop: None), {"protocols": ["rate"]}, "rating_range"),
    "count of zero": (
        (lambda shop: None), {"counts": {"users": 0, "items": 1, "interactions": 1}}, "counts.users=0",
    ),
    "files that lie nowhere": ((lambda shop: None), {}, "files are missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_line_exit_two_nothing_left(name: str, shop, tmp_path, command, capsys) -> None:
    write, changes, expected = CASES[name]
    write(shop)
    card, data = shop.card(**changes), tmp_path / "data"
    code = command(["--dataset", str(card), "--source", str(shop.folder), "--data", str(data)])
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("preparing ")]
    assert code == 2
    assert len(said) == 1, said
    assert expected in said[0]
    assert not data.exists() or not list(data.iterdir())
    assert not (tmp_path.parent / "evil.txt").exists()


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 25


@pytest.mark.parametrize(
    ("text", "left", "lines"),
    [
        ("1 1 2 3 4\n2\n3 1 2 3\n", [("1", 4), ("3", 3)], [2]),
        ("1 1 2 3 4\n1 2 3 4\n3 1 2 3\n4 1 NaN 2\n", [("1", 4), ("3", 3)], [2, 4]),
        ("1 1 2 3 4\n2 3 4\n3 1 2 3\n", [("1", 4), ("3", 3)], [2]),
    ],
)
def test_bad_rows_are_skipped_and_counted(shop, tmp_path, command, capsys, text, left, lines) -> None:
    shop.write("Mini.txt", text)
    options = ["--dataset", str(shop.card()), "--source", str(shop.folder), "--data", str(tmp_path / "data")]
    assert command(options) == 2
    assert command([*options, "--on-bad-rows", "skip"]) == 0
    manifest = json.loads((tmp_path / "data" / "mini" / "manifest.json").read_text())
    assert manifest["bad_rows"]["count"] == len(lines)
    assert [row["line"] for row in manifest["bad_rows"]["first"]] == lines
    assert any(note.startswith("counts differ from the card") for note in manifest["notes"])
    rows = [line.split("\t")[0] for line in (tmp_path / "data/mini/mini.inter").read_text().splitlines()[1:]]
    assert [(user, rows.count(user)) for user in dict.fromkeys(rows)] == left


def test_skipping_everything_is_an_error(shop, tmp_path, command, capsys) -> None:
    shop.write("Mini.txt", "1\n2\n")
    options = ["--dataset", str(shop.card()), "--source", str(shop.folder), "--data", str(tmp_path / "data")]
    assert command([*options, "--on-bad-rows", "skip"]) == 2
    assert "no interaction is left" in capsys.readouterr().err


def test_a_card_that_is_no_yaml(tmp_path: Path, command, capsys) -> None:
    card = tmp_path / "mini.yaml"
    card.write_text("name: [mini\n")
    assert command(["--dataset", str(card)]) == 2
    assert "mini.yaml:2: not valid yaml" in capsys.readouterr().err
    card.write_text(yaml.safe_dump(["mini"]))
    assert command(["--dataset", str(card)]) == 2
    assert "expected a mapping" in capsys.readouterr().err

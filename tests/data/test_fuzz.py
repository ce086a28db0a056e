"""Every reader, given damaged files: it reads, skips or says what is wrong; it never breaks down."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data import convert
from recbole_llmgraph.data.catalogue import Source
from recbole_llmgraph.data.rows import BadRows
from recbole_llmgraph.data.sources import SourceFile

READERS = {
    "interactions": convert.INTERACTIONS, "ids": convert.IDS, "items": convert.ITEMS,
    "attributes": convert.ATTRIBUTES, "times": convert.TIMES, "image": convert.IMAGE,
}  # fmt: skip


def whole_files() -> dict[tuple[str, str, str], bytes]:
    """A sound example for every converter and kind, under the file name that its reader expects."""
    review = {"reviewerID": "RA", "asin": "B1", "overall": 5.0, "unixReviewTime": 3}
    visit = {"user_id": "u", "business_id": "b", "stars": 4, "date": "2019-02-03 04:05:06"}
    inter = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ti\t3\t5\n"
    items = b"item_id:token\ttitle:token\tcategories:token_seq\n1\t\"a\nb\"\t'x', \"y's\"\n2\tc\t'z'\n"
    joined = b"item_id\tasin\tbrand_and_categories\tidgenrec_words\n1\tB1\tA | B\tw\n"
    ratings = b"user_id\tmovie_id\trating\n1\t2\t3\n"
    npy = io.BytesIO()
    np.save(npy, np.ones((2, 3), np.float32))
    film = b"1|Caf\xe9 (1995)|01-Jan||http|" + b"|".join([b"0"] * 18 + [b"1"]) + b"\n"
    return {
        ("s3rec", "interactions", "a.txt"): b"1 2 3 4\n2 3 4 5\n",
        ("s3rec", "attributes", "a.json"): json.dumps({"1": [1, 2], "2": []}).encode(),
        ("s3rec", "ids", "a.json"): json.dumps({"user2id": {"u": "1"}, "item2id": {"i": "1"}}).encode(),
        ("mcauley", "interactions", "r.json"): json.dumps(review).encode() + b"\n",
        ("mcauley", "ids", "r.json"): json.dumps(review).encode() + b"\n",
        ("mcauley", "items", "m.json"): repr({"asin": "1", "categories": [["a", "b"]]}).encode() + b"\n",
        ("mcauley", "image", "f.b"): b"1         " + bytes(4 * 4096),
        ("movielens", "interactions", "ratings.dat"): b"1::2::3::4\n",
        ("movielens", "interactions", "u.data"): b"1\t2\t3\t4\n",
        ("movielens", "items", "movies.dat"): b"1::Caf\xe9 (1995)::Drama|War\n",
        ("movielens", "items", "u.item"): film,
        ("yelp", "interactions", "review.json"): json.dumps(visit).encode() + b"\n",
        ("yelp", "items", "business.json"): b'{"business_id": "1", "name": "x", "categories": "a, b"}\n',
        ("letter", "items", "l.json"): b'{"0": {"title": "x", "description": "a, b"}}',
        ("recbole", "interactions", "x.inter"): inter,
        ("recbole", "items", "x.item"): items,
        ("joined", "items", "t.tsv"): joined,
        ("joined", "ids", "t.tsv"): joined,
        ("joined", "interactions", "t.tsv"): ratings,
        ("joined", "times", "t.inter"): inter,
        ("agent4rec", "items", "s.csv"): b'movie_id,summary\n1,"a, ""b"""\n',
        ("npy", "image", "m.npy"): npy.getvalue(),
    }


WHOLE = whole_files()


def read(key: tuple[str, str, str], data: bytes, folder: Path, policy: Any = "skip") -> Any:
    converter, kind, name = key
    path = folder / name
    path.write_bytes(data)
    (folder / "m.ids").write_text("1\n2\n")
    reader: Callable[..., Any] = READERS[kind][converter]  # type: ignore[index]
    found = SourceFile(Source(file=name, holds=["interactions"], converter="s3rec"), path)
    arguments = [{"1", "2"}] if kind in ("items", "image") else []
    return reader(found, BadRows(policy), *arguments)


def test_every_reader_has_an_example() -> None:
    there = {(converter, kind) for converter, kind, _ in WHOLE}
    same = {("mcauley", "times"), ("yelp", "times"), ("yelp", "ids")}
    assert there | same == {(name, kind) for kind, readers in READERS.items() for name in readers}


@pytest.mark.parametrize("key", WHOLE, ids=" ".join)
def test_the_example_is_sound(key, tmp_path) -> None:
    assert read(key, WHOLE[key], tmp_path, "error") is not None


SIGNS = [b"\n", b"\t", b'"', b"{", b"[" * 3000, b"\r", b"\0", b"::"]
damage = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
    st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.sampled_from(SIGNS)),
    st.tuples(st.just("replace"), st.floats(0, 1), st.binary(min_size=1, max_size=2)),
)  # fmt: skip


@pytest.mark.parametrize("key", WHOLE, ids=" ".join)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(damage, min_size=1, max_size=3))
def test_damage_is_skipped_or_told(key, tmp_path, faults) -> None:
    data = WHOLE[key]
    for how, where, put in faults:
        at = int(where * len(data))
        data = (
            data[:at]
            if how == "cut"
            else data[:at] + put + data[at + (len(put) if how == "replace" else 0) :]
        )
    try:
        read(key, data, tmp_path)
    except UserError as error:
        assert "\n" not in str(error)
        assert str(tmp_path) in str(error) or "no interaction is left" in str(error)


@pytest.mark.parametrize("key", WHOLE, ids=" ".join)
@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 0.99])
def test_brackets_without_end_are_told(key, where: float, tmp_path) -> None:
    at = int(where * len(WHOLE[key]))
    try:
        read(key, WHOLE[key][:at] + b"[" * 100_000 + WHOLE[key][at:], tmp_path)
    except UserError as error:
        assert "\n" not in str(error)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1), put=st.binary(min_size=1, max_size=3))
def test_damaged_gzip_is_told(tmp_path, at: float, put: bytes) -> None:
    packed = bytearray(gzip.compress(b"".join(b"%d 1 2 3\n" % user for user in range(500)), mtime=0))
    place = int(at * (len(packed) - len(put)))
    packed[place : place + len(put)] = put
    key = ("s3rec", "interactions", "a.txt.gz")
    try:
        rows = read(key, bytes(packed), tmp_path)
    except UserError as error:
        assert "a.txt.gz" in str(error)
    else:
        # only bytes that gzip does not check (time stamp, flags) may change without notice
        assert len(rows) == 1500

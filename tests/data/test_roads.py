"""Two roads to one dataset give the same bytes."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.data.interactions import Interactions, core, natural
from recbole_llmgraph.data.prepare import Prepared, prepare


def made(shop, data: Path, **changes) -> Prepared:
    return prepare(dataset_card(str(shop.card(**changes))), data, source=shop.folder)


def atomic_bytes(prepared: Prepared) -> dict[str, bytes]:
    return {end: (prepared.folder / f"mini.{end}").read_bytes() for end in ("inter", "item")}


def test_s3rec_files_become_these_rows(shop, tmp_path) -> None:
    shop.all_of_s3rec()
    files = atomic_bytes(made(shop, tmp_path / "data"))
    # RA: item 4 at 100, 2 at 200, 1 and 3 at 300 in file order; then RB from 1 and 2 (tie) on
    assert files["inter"].decode().splitlines() == [
        "user_id:token\titem_id:token\ttimestamp:float",
        *("1\t1\t0", "1\t2\t1", "1\t3\t2", "1\t4\t3"),
        *("2\t3\t0", "2\t2\t1", "2\t4\t2"),
        *("3\t4\t0", "3\t3\t1", "3\t2\t2"),
    ]
    assert files["item"].decode().splitlines() == [
        "item_id:token\ttitle:token_seq\tbrand:token_seq\tcategories:token_seq\tattributes:token_seq",
        "1\t\t'Quoted'\tBeauty Hair_Care Soap\t3 1",
        "2\tNone.\t\tBeauty Women's\t1",
        "3\tThe 'Big' Brush 3' new\tDr._Scholl's\tBeauty Hair_Care Tools\t2",
        "4\tSoap & Water\tAcme\tBeauty Hair_Care\t1 4",
    ]


ROADS = {
    "sequences, maps, RecBole items": ("sequences", "maps", "attributes", "recbole_items"),
    "sequences, maps, raw metadata": ("sequences", "maps", "attributes", "meta"),
    "raw reviews, maps, raw metadata": ("reviews", "maps", "attributes", "meta"),
    "raw reviews and metadata, no maps": ("reviews", "attributes", "meta"),
    "sequences with the ids of the raw reviews": ("sequences", "reviews", "attributes", "recbole_items"),
}


@pytest.mark.parametrize("road", ROADS)
def test_every_road_gives_the_same_atomic_files(make_shop, tmp_path, road: str) -> None:
    reference = make_shop("reference")
    reference.all_of_s3rec()
    shop = make_shop("road")
    for part in ROADS[road]:
        getattr(shop, f"write_{part}")()
    one, two = made(reference, tmp_path / "one"), made(shop, tmp_path / "two")
    assert atomic_bytes(one) == atomic_bytes(two)
    assert one.fingerprint == two.fingerprint


def test_packed_and_plain_files_are_alike(make_shop, tmp_path) -> None:
    plain, packed = make_shop("plain"), make_shop("packed")
    plain.all_of_s3rec()
    packed.all_of_s3rec()
    for path in list(packed.folder.iterdir()):
        (path.parent / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert atomic_bytes(made(plain, tmp_path / "a")) == atomic_bytes(made(packed, tmp_path / "b"))


def test_real_times_stand_beside_and_do_not_change_the_files(make_shop, tmp_path) -> None:
    bare, timed = make_shop("bare"), make_shop("timed")
    for shop in (bare, timed):
        shop.all_of_s3rec()
    timed.write_reviews()
    one, two = made(bare, tmp_path / "one"), made(timed, tmp_path / "two")
    assert atomic_bytes(one) == atomic_bytes(two)
    assert not (one.folder / "time.tsv").exists()
    rows = [line.split("\t") for line in (two.folder / "time.tsv").read_text().splitlines()[1:]]
    assert [row[3] for row in rows[:4]] == ["100", "200", "300", "300"]
    assert [row[:3] for row in rows] == [
        line.split("\t") for line in (one.folder / "mini.inter").read_text().splitlines()[1:]
    ]


def long_histories(rows: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """The rows of the users who have at least three."""
    length = Counter(user for user, _, _ in rows)
    return [row for row in rows if length[row[0]] >= 3]


#: One user more, so that nobody is never left.
ALWAYS = [("Z", item, 1) for item in "hab"]
reviews = st.lists(
    st.tuples(st.sampled_from("PQRS"), st.sampled_from("abcdefgh"), st.integers(0, 5)),
    max_size=50,
    unique_by=lambda review: review[:2],
).map(lambda rows: long_histories([*rows[:9], *ALWAYS, *rows[9:]]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reviews=reviews)
def test_raw_reviews_equal_sequences_whatever_the_reviews(make_shop, tmp_path_factory, reviews) -> None:
    folder = tmp_path_factory.mktemp("roads")
    shops = []
    for name in ("sequences", "reviews"):
        shop = make_shop(f"{folder.name}-{name}", reviews)
        getattr(shop, f"write_{name}")()
        shops.append(made(shop, folder / name))
    assert atomic_bytes(shops[0]) == atomic_bytes(shops[1])


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from("uvwxy"), st.sampled_from("abcde")), max_size=60))
def test_core_is_the_largest_set_in_which_everyone_has_enough(rows) -> None:
    found = core(Interactions([u for u, _ in rows], [i for _, i in rows]), 3)
    kept = list(zip(found.users, found.items, strict=True))
    # slow reference: drop one user or one item at a time
    left = list(rows)
    while True:
        users, items = Counter(u for u, _ in left), Counter(i for _, i in left)
        weak = next((pair for pair in left if users[pair[0]] < 3 or items[pair[1]] < 3), None)
        if weak is None:
            break
        column = 0 if users[weak[0]] < 3 else 1
        left = [pair for pair in left if pair[column] != weak[column]]
    assert kept == left


def test_numbers_are_ordered_by_value_and_stand_before_names() -> None:
    assert sorted(["b", "10", "9", "a", "1"], key=natural) == ["1", "9", "10", "a", "b"]


def test_yelp_json_equals_the_sequences(make_shop, tmp_path) -> None:
    """Users keep the place of their first review, though that review falls out of the 2-core."""
    reviews = [("B", "gone", "2019-05-01"), ("A", "x", "2019-03-01"), ("A", "y", "2019-02-01")]
    reviews += [("B", "x", "2019-01-02"), ("B", "y", "2019-07-01"), ("B", "x", "2019-08-01")]
    reviews += [("A", "x", "2019-09-09"), ("A", "y", "2018-12-31"), ("B", "y", "2020-01-01")]
    shop = make_shop("json")
    rows = ({"user_id": u, "business_id": i, "stars": 4.0, "date": f"{d} 12:00:00"} for u, i, d in reviews)
    shop.write("review.json", "".join(json.dumps(row) + "\n" for row in rows))
    shop.write(
        "business.json",
        '{"business_id": "x", "name": "Sal\\"s", "categories": "Food, Bars"}\n'
        '{"business_id": "y", "name": "Y", "categories": null}\n{"business_id": "gone", "name": "G"}\n',
    )
    period = ["2019-01-01 00:00:00", "2019-12-31 00:00:00"]
    sources = [
        {"file": "review.json", "holds": ["interactions", "ids"], "converter": "yelp", "core": 2}
        | {"period": period, "raw_ids": True},
        {"file": "business.json", "holds": ["items"], "converter": "yelp", "raw_ids": True},
    ]
    counts = {"users": 2, "items": 2, "interactions": 6, "repeats": 2}
    one = made(shop, tmp_path / "one", sources=sources, counts=counts)
    other = make_shop("text")
    # B is user 1: x (January), y, x; A is user 2: y, x, x
    other.write("Mini.txt", "1 1 2 1\n2 2 1 1\n")
    other.write(
        "Letter.json", json.dumps({"0": {"title": 'Sal"s', "description": "Food, Bars"}, "1": {"title": "Y"}})
    )
    sources = [
        {"file": "Mini.txt", "holds": ["interactions"], "converter": "s3rec"},
        {"file": "Letter.json", "holds": ["items"], "converter": "letter"},
    ]
    two = made(other, tmp_path / "two", sources=sources, counts=counts)
    assert atomic_bytes(one) == atomic_bytes(two)


RATED = {"protocols": ["seq", "rate"], "rating_range": [1, 5], "features": [], "text": ["title"]}


def movielens(kind: str, **rows) -> dict[str, object]:
    files = {
        "100k": ("u.data", "u.item"),
        "1m": ("ratings.dat", "movies.dat"),
        "atomic": ("m.inter", "m.item"),
    }
    converter = "recbole" if kind == "atomic" else "movielens"
    return {
        "sources": [
            {"file": files[kind][0], "holds": ["interactions"], "converter": converter},
            {"file": files[kind][1], "holds": ["items"], "converter": converter},
        ],
        "counts": {"users": 2, "items": 3, "interactions": 6},
    } | RATED


def test_movielens_folders_equal_recbole_files(make_shop, tmp_path) -> None:
    rows = [
        ("2", "10", 3, 77),
        ("1", "10", 5, 9),
        ("1", "9", 1, 3),
        ("2", "9", 4, 77),
        ("1", "8", 2, 9),
        ("2", "8", 4, 5),
    ]
    genres = {"8": [5], "9": [1, 18], "10": [10]}
    titles = {"8": "Café (1995)", "9": "Land, The (1996) (V)", "10": "Noir (Le noir) (1940)"}
    names = {"8": "Comedy", "9": "Action Western", "10": "Film-Noir"}
    old, new, atomic = make_shop("old"), make_shop("new"), make_shop("atomic")
    old.write("u.data", "".join("\t".join(map(str, row)) + "\n" for row in rows))
    flags = {item: "|".join("1" if k in genres[item] else "0" for k in range(19)) for item in genres}
    old.write(
        "u.item", "".join(f"{i}|{titles[i]}|01-Jan||http|{flags[i]}\n" for i in titles).encode("latin-1")
    )
    new.write("ratings.dat", "".join("::".join(map(str, row)) + "\n" for row in rows))
    lines = (
        "".join(f"{i}::{titles[i]}::{names[i].replace(' ', '|')}\n" for i in titles)
        + "7::Unseen (1990)::War\n"
    )
    new.write("movies.dat", lines.encode("latin-1"))
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    atomic.write("m.inter", header + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    split = {"8": "Café\t1995", "9": "Land, The (1996)\tV", "10": "Noir (Le noir)\t1940"}
    atomic.write("m.item", header + "".join(f"{i}\t{split[i]}\t{names[i]}\n" for i in split))
    roads = [
        atomic_bytes(made(shop, tmp_path / kind, **movielens(kind)))
        for shop, kind in ((old, "100k"), (new, "1m"), (atomic, "atomic"))
    ]
    assert roads[0] == roads[1] == roads[2]
    assert roads[0]["inter"].decode().splitlines()[1:] == [
        *("1\t9\t1\t0", "1\t10\t5\t1", "1\t8\t2\t2"),
        *("2\t8\t4\t0", "2\t10\t3\t1", "2\t9\t4\t2"),
    ]
    assert roads[0]["item"].decode().splitlines()[2] == "9\tLand, The\tAction Western\t1996\tAction Western"

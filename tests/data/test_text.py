"""Whatever stands in a title comes back as one clean line, also through RecBole's reader; ids survive."""

import csv
import io
import json

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recbole_llmgraph.data.atomic import write_item, write_text
from recbole_llmgraph.data.catalogue import Source, dataset_card
from recbole_llmgraph.data.convert.common import title_and_year
from recbole_llmgraph.data.convert.recbole import category_list, read_items
from recbole_llmgraph.data.convert.s3rec import read_sequences
from recbole_llmgraph.data.prepare import prepare
from recbole_llmgraph.data.rows import BadRows, atomic_text, clean, one_line, time_fault, token_fault
from recbole_llmgraph.data.sources import SourceFile

CALM = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NASTY = '"a\tb\nc"\r\n\x0b\x85\u2028"d'


def read_as_recbole(path) -> pd.DataFrame:
    """recbole/data/dataset/dataset.py, `_load_feat`: the same call of pandas."""
    return pd.read_csv(path, delimiter="\t", dtype=str, encoding="utf-8", engine="python")


@given(text=st.text())
def test_one_line_is_one_line_and_loses_no_word(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line == one_line(line) == line.strip()
    assert "\t" not in line
    line.encode()
    kept = [c for c in text if not c.isspace() and c.isprintable() and c != "\ufeff"]
    assert [c for c in line if c.isprintable() and c != " "] == [c for c in kept if c != " "]


@CALM
@given(
    titles=st.lists(st.text(), min_size=1, max_size=6),
    brands=st.lists(st.text(max_size=5), min_size=6, max_size=6),
)
@example(titles=[NASTY, '"', "NA", "null", '""', "''"], brands=["", "nan", '"x', "a b", "\t", "None"])
def test_recbole_reads_every_row_of_an_item_file(tmp_path, titles, brands) -> None:
    items = {
        str(k): {"title": clean(title), "brand": clean(brand), "categories": ["All things", clean(title)]}
        for k, (title, brand) in enumerate(zip(titles, brands, strict=False), start=1)
    }
    path = tmp_path / "x.item"
    write_item(path, items)
    frame = read_as_recbole(path)
    assert frame["item_id:token"].tolist() == list(items)
    for row, item in zip(frame.itertuples(index=False), items.values(), strict=True):
        for name, cell in zip(frame.columns, row, strict=True):
            value = item.get(name.split(":")[0], "")
            words = [word for each in ([value] if isinstance(value, str) else value) for word in each.split()]
            expected = "".join(words).replace('"', "'")
            got = "" if pd.isna(cell) else cell.replace(" ", "").replace("_", "")
            if name != "item_id:token":
                assert got.rstrip(".") == expected.replace("_", "").rstrip(".")


@CALM
@given(title=st.text(min_size=1))
@example(title=NASTY)
def test_a_title_survives_the_json_lines(tmp_path, title) -> None:
    path = tmp_path / "item_text.jsonl"
    write_text(path, {"1": {"title": clean(title)}, "2": {"attributes": ["7"]}})
    lines = path.read_bytes().split(b"\n")
    assert len(lines) == 3 and lines[2] == b""
    assert json.loads(lines[0]).get("title", "") == clean(title)
    assert json.loads(lines[1]) == {"item_id": "2"}


@CALM
@given(rows=st.lists(st.tuples(st.text(), st.lists(st.text(), max_size=3)), min_size=1, max_size=5))
@example(rows=[("a\rb", [])])
@example(rows=[(NASTY, ["Women's", 'a"b', "x, y"]), ("", [])])
def test_published_item_files_are_read_whatever_their_quoting(tmp_path, rows) -> None:
    """Written as Amazon_Beauty.item is: csv quoting, categories as a Python list without brackets."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n", escapechar=None)
    writer.writerow(["item_id:token", "title:token", "categories:token_seq"])
    rows = [(t.replace("\0", ""), [c.replace("\0", "") for c in cs]) for t, cs in rows]
    for place, (title, categories) in enumerate(rows):
        writer.writerow([f"A{place}", title, repr(categories)[1:-1]])
    path = tmp_path / "A.item"
    path.write_bytes(text.getvalue().encode("utf-8", "replace"))
    source = Source(file="A.item", holds=["items"], converter="recbole")
    side = read_items(SourceFile(source, path), BadRows(), {f"A{place}" for place in range(len(rows))})
    assert list(side.rows) == [f"A{place}" for place in range(len(rows))]
    for place, (title, categories) in enumerate(rows):
        fields = side.rows[f"A{place}"]
        assert fields["title"] == clean(title.encode("utf-8", "replace").decode())
        if categories:
            names = [clean(each.encode("utf-8", "replace").decode()) for each in categories]
            assert fields["categories"] == list(dict.fromkeys(name for name in names if name))


tokens = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=5)
histories = st.dictionaries(
    tokens.filter(lambda t: token_fault(t) is None),
    st.lists(tokens.filter(lambda t: token_fault(t) is None), min_size=3, max_size=6),
    min_size=1,
    max_size=5,
)


@CALM
@given(histories=histories)
def test_sequences_become_atomic_rows_and_back(shop, tmp_path_factory, histories) -> None:
    """Sequence file -> atomic file -> as RecBole reads it -> the same histories in the same order."""
    folder = tmp_path_factory.mktemp("round")
    shop.write("Mini.txt", "".join(f"{user} {' '.join(items)}\n" for user, items in histories.items()))
    rows = [(user, item) for user, items in histories.items() for item in items]
    counts = {
        "users": len(histories),
        "items": len({item for _, item in rows}),
        "interactions": len(rows),
        "repeats": len(rows) - len(set(rows)),
    }
    source = {"file": "Mini.txt", "holds": ["interactions"], "converter": "s3rec"}
    card = dataset_card(str(shop.card(counts=counts, sources=[source])))
    made = prepare(card, folder, source=shop.folder)
    frame = read_as_recbole(made.folder / "mini.inter")
    frame["timestamp:float"] = frame["timestamp:float"].astype(float)
    frame = frame.sort_values("timestamp:float", kind="stable")
    back = {
        str(user): rows["item_id:token"].tolist() for user, rows in frame.groupby("user_id:token", sort=False)
    }
    assert back == histories
    items = read_as_recbole(made.folder / "mini.item")["item_id:token"].tolist()
    assert sorted(items) == sorted({item for _, item in rows})


@given(data=st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_skipped_never_a_crash(tmp_path, data: bytes) -> None:
    path = tmp_path / "Mini.txt"
    path.write_bytes(data or b"\n")
    source = Source(file="Mini.txt", holds=["interactions"], converter="s3rec")
    bad = BadRows("skip")
    rows = read_sequences(SourceFile(source, path), bad)
    lines = (data or b"\n").count(b"\n") + (not (data or b"\n").endswith(b"\n"))
    assert bad.count + len(set(rows.users)) == lines
    assert all(token_fault(token) is None for token in {*rows.users, *rows.items})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("R&amp;B &#39;x&#39; &lt;b&gt;", "R&B 'x' <b>"),
        ("AT&T &copy Q&A", "AT&T &copy Q&A"),
        ("a&nbsp;b\u00a0c", "a b c"),
    ],
)
def test_entities(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("title", "year", "expected"),
    [
        ("Toy Story (1995)", "", ("Toy Story", "1995")),
        ("Land Before Time III (1995)", "V", ("Land Before Time III", "1995")),
        ("Shanghai Triad (Yao a yao) (1995)", "", ("Shanghai Triad (Yao a yao)", "1995")),
        ("Stalker (1979)", "1979", ("Stalker (1979)", "1979")),
        ("unkonwn", "unkonwn", ("unkonwn", "")),
        ("2001", "", ("2001", "")),
    ],
)
def test_title_and_year(title: str, year: str, expected: tuple[str, str]) -> None:
    assert title_and_year(title, year) == expected


def test_categories_of_published_files() -> None:
    assert category_list("'Beauty', 'Fragrance', \"Women's\"") == ["Beauty", "Fragrance", "Women's"]
    assert category_list("['Beauty']") == ["Beauty"]
    assert category_list("Animation Children's Comedy") == ["Animation", "Children's", "Comedy"]
    assert category_list("") == []


def test_faults_are_named() -> None:
    assert token_fault("a b") and token_fault('a"') and token_fault("") and token_fault("null")
    assert token_fault("日本") is None
    assert time_fault("inf") and time_fault("-0.5") and time_fault("x") and time_fault("nan")
    assert time_fault("1.5e9") is None
    assert atomic_text('"x"') == "'x'"

"""A test part that a paper released: what counts, what is left out, and where it goes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import RELEASED_TEST
from recbole_llmgraph.data.catalogue import Source, dataset_card
from recbole_llmgraph.data.convert.signed import read_test
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.prepare import prepare
from recbole_llmgraph.data.rows import BadRows
from recbole_llmgraph.data.sources import SourceFile
from recbole_llmgraph.suite.house import dataset_fingerprint, released_test

#: 1,200 ratings of 40 users: user u gave item i the stars (u + i) % 5 + 1.
RATED = [(str(u), str(i), str((u + i) % 5 + 1)) for u in range(1, 41) for i in range(1, 31)]
ROWS = Interactions(*(list(column) for column in zip(*RATED, strict=True)))


def line(row: tuple[str, str, str], *, wrong: bool = False) -> str:
    return f"{row[0]}\t{row[1]}\t{'1' if (float(row[2]) >= 4) != wrong else '-1'}"


def read(tmp_path: Path, lines: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    path = tmp_path / "test.txt"
    path.write_text("".join(f"{text}\n" for text in lines))
    source = Source(file="test.txt", holds=["test"], converter="signed")
    return read_test(SourceFile(source, path), ROWS, BadRows())


def test_every_line_with_its_sign_counts_in_its_order(tmp_path: Path) -> None:
    tested = RATED[::-5]
    assert read(tmp_path, [line(row) for row in tested]) == ([(u, i) for u, i, _ in tested], [])


@pytest.mark.parametrize(
    "damaged", ["7\t9", "7    9    1    1", "", "41\t1\t1", "7\t31\t1", "7\t9\t0", line(RATED[0], wrong=True)]
)
def test_a_damaged_line_is_left_out_and_told(tmp_path: Path, damaged: str) -> None:
    good = [line(row) for row in RATED[1:]]
    pairs, told = read(tmp_path, [*good[:40], damaged, *good[40:]])
    assert len(pairs) == len(good)
    assert told == ["released test part: damaged lines left out: 41"]


def test_a_file_of_another_dataset_is_refused(tmp_path: Path) -> None:
    lines = [line(row) for row in RATED]
    with pytest.raises(
        UserError, match=r"test.txt: 2 of 1,200 lines are no ratings.* the first in line 1; fetch"
    ):
        read(tmp_path, ["1 2", "3 4", *lines[2:]])


def test_a_pair_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"test.txt:3: user 1 and item 1 stand twice"):
        read(tmp_path, [line(row) for row in (*RATED[:2], RATED[0])])


@pytest.fixture
def carded(miniature: Any, tmp_path: Path) -> Any:
    """Card of the rated miniature with a released test part that lies in no folder yet."""
    card = yaml.safe_load(miniature.card_path.read_text())
    card["sources"].append({"file": "tested.txt", "holds": ["test"], "converter": "signed", "optional": True})
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump(card))
    return dataset_card(str(tmp_path / "mini.yaml"))


def test_it_is_prepared_where_it_lies_and_named_where_it_does_not(
    carded: Any, miniature: Any, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in miniature.source.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    bare = prepare(carded, tmp_path / "bare", source=source)
    with pytest.raises(UserError, match=r"mini: protocol sign tests .* tested.txt .*--protocol sign@1"):
        dataset_fingerprint(bare, None, "sign")
    plain = dataset_fingerprint(bare, None, "sign@1")
    assert (
        plain == dataset_fingerprint(bare, None, "seq") == dataset_fingerprint(miniature.ready, None, "sign")
    )
    given = [text.split("\t")[:3] for text in (source / "mini.inter").read_text().splitlines()[1:]]
    tested = [(u, i, r) for u, i, r in given[::4]]
    (source / "tested.txt").write_text("".join(line(row) + "\n" for row in tested))
    made = prepare(carded, tmp_path / "data", source=source)
    written = (made.folder / RELEASED_TEST).read_text().splitlines()
    assert written[1:] == [f"{u}\t{i}" for u, i, _ in tested]
    assert {entry["holds"] for entry in made.manifest["sources"]} >= {"interactions", "test"}
    assert made.fingerprint == bare.fingerprint  # the ratings are the same
    assert dataset_fingerprint(made, None, "sign") != plain == dataset_fingerprint(made, None, "rate")
    found = released_test(made, "sign")
    assert found is not None and found.file == "tested.txt"
    assert released_test(replace(made, card=miniature.card), "sign") is None

"""The ground floor: errors in one line, hashes that tell data apart, files that are whole or absent."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PositiveInt

from recbole_llmgraph.base.errors import UserError, did_you_mean, unknown
from recbole_llmgraph.base.files import new_file, new_folder, read_yaml, write_json
from recbole_llmgraph.base.hashing import canonical, hash_bytes, hash_data
from recbole_llmgraph.base.settings import Settings

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Small(Settings):
    """A settings class of two."""

    tau: float = 0.5
    knn_k: PositiveInt = 10


@given(st.text())
def test_errors_are_one_line_whatever_they_quote(text: str) -> None:
    assert len(str(UserError(f"{text}: wrong")).splitlines()) == 1


def test_names_nobody_knows_get_the_nearest_one() -> None:
    assert did_you_mean("hellm", ["SASRec", "HeLLM"]) == " Did you mean 'HeLLM'?"
    assert did_you_mean("zzz", ["SASRec"]) == ""
    assert str(unknown("model", "HeLM", ["HeLLM"])) == "no model 'HeLM'. Did you mean 'HeLLM'? Known: HeLLM."


def test_settings_refuse_unknown_names_and_wrong_values() -> None:
    with pytest.raises(UserError, match=r"no setting of Small 'knn'\. Did you mean 'knn_k'\?"):
        Small.read({"knn": 3})
    with pytest.raises(UserError, match=r"^Small\.knn_k=0: "):
        Small.read({"knn_k": 0})
    assert Small.read({"tau": 0.1}).knn_k == 10


@given(plain)
def test_hash_does_not_depend_on_the_order_of_keys(data: object) -> None:
    pair = {"a": data, "b": 1}
    assert hash_data(pair) == hash_data(dict(reversed(pair.items())))
    assert canonical(pair) == canonical(dict(reversed(pair.items())))


def test_hashed_parts_cannot_run_together() -> None:
    assert hash_bytes(b"ab", b"c") != hash_bytes(b"a", b"bc")
    assert hash_data([1]) != hash_data(["1"])


def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ZeroDivisionError), new_file(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == '{\n  "x": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_folder_made_twice_keeps_the_first(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with new_folder(tmp_path / "made") as temporary:
            (temporary / "file").write_text(text)
    assert (tmp_path / "made" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", r":[12]: not valid yaml"),
        ("- 1", "expected a mapping"),
        (None, "no such file"),
    ],
)
def test_yaml_errors_name_the_file(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "card.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=told) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)

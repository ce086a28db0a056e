"""Rows by token: what is saved comes back, in whatever order it is asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.artifact.tables import TokenTable, load_table, rows_for, save_table
from recbole_llmgraph.base.errors import UserError

TOKENS = st.lists(st.text(st.characters(codec="utf-8")), unique=True, max_size=6)


@settings(deadline=None, max_examples=30)
@given(tokens=TOKENS, width=st.integers(0, 3), kind=st.sampled_from(["float32", "float64", "int64"]))
def test_round_trip(tmp_path_factory, tokens, width, kind):
    path = tmp_path_factory.mktemp("tables") / "t.safetensors"
    rows = (np.random.default_rng(0).normal(size=(len(tokens), width)) * 9).astype(kind)
    save_table(path, tokens, rows, {"from": "test", "n": [1, 2]})
    table = load_table(path)
    assert table.tokens == tokens
    assert table.meta == {"from": "test", "n": [1, 2]}
    assert torch.equal(table.rows, torch.from_numpy(rows))


def test_equal_tables_are_equal_to_the_byte(tmp_path):
    rows = torch.arange(6.0).view(2, 3)
    for name, meta in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1})):
        save_table(tmp_path / name, ["p", "q"], rows, meta)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@settings(deadline=None)
@given(asked=st.lists(st.sampled_from(["a", "b", "c", "[PAD]", None])))
def test_rows_follow_the_asker(asked):
    table = TokenTable(["c", "a", "b"], torch.tensor([[3.0, 3], [1, 1], [2, 2]]))
    value = {"a": 1.0, "b": 2.0, "c": 3.0, "[PAD]": 0.0, None: 0.0}
    rows = rows_for(table, asked)
    assert rows.tolist() == [[value[token]] * 2 for token in asked]


def test_token_without_row():
    table = TokenTable(["a"], torch.ones(1, 2))
    with pytest.raises(UserError, match="none for token 'x' and 1 more"):
        rows_for(table, ["a", "x", "y"])
    assert rows_for(table, ["a", "x"], missing="zero").tolist() == [[1, 1], [0, 0]]


def test_changing_rows_leaves_the_table_alone():
    table = TokenTable(["a"], torch.ones(1, 2))
    rows_for(table, ["a"]).zero_()
    assert table.rows.tolist() == [[1, 1]]


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="2 tokens for 1 rows"):
        save_table(tmp_path / "t", ["a", "b"], torch.ones(1, 2))
    with pytest.raises(ValueError, match="twice"):
        save_table(tmp_path / "t", ["a", "a"], torch.ones(2, 2))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="no such file"):
        load_table(tmp_path / "t")
    save_table(tmp_path / "t", ["a"], torch.ones(1, 2))
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:-3])
    with pytest.raises(UserError, match="make it again"):
        load_table(tmp_path / "t")
    torch.save(torch.ones(2), tmp_path / "p")
    with pytest.raises(UserError, match="no table"):
        load_table(tmp_path / "p")

"""LaTeX tables: what they say, and that names cannot leave their cell."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llmgraph.report.latex import _escaped, latex_pages, latex_table

HOSTILE = "a&b%c$d#e_f{g}~h^i\\input{x}|<\n>"


def lines(text: str) -> list[str]:
    """Rows of the body."""
    body = text.split("\\midrule")[1].split("\\bottomrule")[0]
    return [line for line in body.strip().splitlines() if line.strip()]


def test_a_table_says_what_its_rows_share_and_marks_the_best(add, boards) -> None:
    for seed in (1, 2):
        add("SASRec", hit=0.5, seed=seed)
    add("HeLLM", hit=0.2, backbone="builtin:llama_mini")
    (board,) = boards()
    text = latex_table(board, "t")
    assert (
        "beauty: seq, preset standard, mask train; split 5f1e; 200 test users, 12,101 candidate items" in text
    )
    assert "\\label{tab:t}" in text and "\\toprule" in text and "R@10 = HR@10" in text
    first, second = lines(text)
    assert first.startswith("SASRec & \\textbf{0.") and first.count("$\\pm$") == 4 and "1, 2" in first
    assert second.startswith("HeLLM & \\underline{0.") and "builtin:llama\\_mini" in second
    assert first.count("&") == second.count("&") == 8
    assert "half the 95\\,\\% interval over seeds" in text
    best = float(re.search(r"textbf\{([\d.]+)\}", first)[1])
    assert best == pytest.approx(board.rows["recall@10"].iloc[0], abs=5e-5)


def test_names_stay_in_their_cell(add, boards) -> None:
    add(HOSTILE, variant=HOSTILE, backbone=HOSTILE, seed=3)
    (row,) = lines(latex_table(boards()[0]))
    assert (
        len(re.findall(r"(?<!\\)&", row)) == 8 and "\\input" not in row and "%" not in row.replace("\\%", "")
    )


@given(st.text())
def test_no_special_character_is_left_bare(text: str) -> None:
    found = _escaped(text)
    for named in ("textasciitilde", "textasciicircum", "textbackslash", "textless", "textgreater", "textbar"):
        found = found.replace(f"\\{named}{{}}", "")
    bare = re.sub(r"\\[&%$#_{}]", "", found)
    assert not set(bare) & set("&%$#_{}~^\\<>|\n")


def test_a_file_a_table(add, boards) -> None:
    add()
    add(split_fingerprint="0123456789abcdef")
    names = [page.name for page in latex_pages([*boards(), *boards("none")])]
    assert len(set(names)) == 4
    assert {"tables/beauty-seq-standard-train.tex", "tables/beauty-seq-standard-none.tex"} < set(names)

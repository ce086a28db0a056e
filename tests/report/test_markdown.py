"""Markdown: cells, marks, hostile text, and what stands above and below a table."""

import html
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.report.columns import amount, count, number
from recbole_llmgraph.report.leaderboard import empty_leaderboard, leaderboards
from recbole_llmgraph.report.markdown import code, escape, leaderboard_section, marked, run_command, table
from recbole_llmgraph.report.versus import users_of
from recbole_llmgraph.store.frame import runs_frame
from recbole_llmgraph.store.record import Code, Cost, Stage
from recbole_llmgraph.store.runs import read_stores

HOSTILE = (
    "<script>alert(1)</script> a|b\n| c | `x` **y** [z](http://e) <img src=x onerror=alert(1)> &amp; ~~$#!"
)


def rendered_html(text: str) -> str:
    """HTML of Markdown with raw HTML let through, as hosts of Markdown pages may do."""
    parser = pytest.importorskip("markdown_it", reason="markdown-it-py comes with rich")
    return parser.MarkdownIt("commonmark").enable("table").render(text)


def cells(line: str) -> int:
    """Cells of a pipe-table line, escaped bars apart."""
    return line.replace("\\|", "").count("|") - 1


def rows_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


@settings(deadline=None)
@given(st.text())
def test_escaped_text_has_no_markup_left(text):
    found = escape(text)
    bare = found.replace("\\\\", "")
    for mark in "`*_[]|~#!$":
        assert bare.count(mark) == bare.count("\\" + mark)
    assert "<" not in found and ">" not in found and "\n" not in found and "\r" not in found


@settings(deadline=None)
@given(
    st.text(
        st.characters(exclude_characters="\\`*_[]|~#!$", exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"])
    )
)
def test_escaping_loses_nothing(text):
    assert html.unescape(escape(text)) == text


@settings(deadline=None)
@given(st.text())
def test_code_spans_cannot_be_left(text):
    found = code(text)
    assert found.count("`") == 2 and "\n" not in found and "|" not in found.replace("\\|", "")


def test_escaped_markdown_renders_as_the_text_it_was():
    rendered = rendered_html(table(["model"], [[escape(HOSTILE)]]))
    assert html.escape(" ".join(HOSTILE.split())) in rendered.replace("&quot;", '"')
    for tag in ("<script", "<img", "<a ", "<strong", "<em", "<code"):
        assert tag not in rendered


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.4234, "0.423"), (3.456, "3.46"), (35.25, "35.2"), (99.96, "100"), (1240.4, "1,240")]
    + [(877_824, "877,824"), (1_534_000, "1.53M"), (7e9, "7.00B")],
)
def test_amounts(value, shown):
    assert amount(value) == shown


def test_counts_and_missing_numbers():
    assert (count(12.0), count(12.5), count(1200.0)) == ("12", "12.5", "1,200")
    assert number(None, amount) == number(math.nan, amount) == "–"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.3, 0.2, 0.1], ["**a**", "<u>b</u>", "c"]),
        ([0.1, 0.3, 0.3], ["<u>a</u>", "**b**", "**c**"]),
        ([0.30001, 0.30002, 0.2], ["**a**", "**b**", "<u>c</u>"]),
        ([math.nan, 0.3, 0.2], ["a", "**b**", "<u>c</u>"]),
        ([0.3, math.nan], ["a", "b"]),
        ([0.2, 0.2], ["**a**", "**b**"]),
    ],
)
def test_best_is_bold_and_second_underlined_by_what_is_printed(values, shown):
    assert marked(values, "abc"[: len(values)]) == shown


def test_a_table_says_everything_above_and_in_its_cells(add, boards):
    add("SASRec", hit=0.3)
    add(hit=0.5, backbone="builtin:llama-mini", code=Code(version="0.1.0", commit="abcdef012345", dirty=True))
    text = leaderboard_section(boards()[0])
    for told in (
        "`seq`: leave-one-out",
        "Mask `train`: items of the user's own training",
        "Split `5f1e`: 200 users",
    ):
        assert told in text
    assert "all 12,101 items" in text and "Recall is the hit rate" in text
    header, ruler, first, second = rows_of(text)
    assert "R@10 = HR@10" in header and "N@20" in header and set(ruler) <= set("|:- ")
    assert "HeLLM" in first and "**0." in first and "0.1.0 abcdef0\\*" in first and "<u>0." in second
    assert " 1.53M |" in first and " 200,000 |" in first and " 11.7 |" in first and " 2,346 |" in first
    assert len({cells(line) for line in (header, ruler, first, second)}) == 1


def test_epochs_stand_against_their_budget(add, boards):
    add("Told", budget={"epochs": 30}, hit=0.5)
    add("Untold", epochs_run=None)
    first, second = rows_of(leaderboard_section(boards()[0]))[2:]
    assert "| 10 of 30 |" in first and " of " not in second


@pytest.mark.parametrize("earlier", ["pretrain_epochs", "text_epochs"])
def test_epochs_of_earlier_phases_count_in_the_budget(add, boards, earlier):
    add(budget={"epochs": 30}, settings={"epochs": 30, earlier: 20}, epochs_run=42)
    assert "| 42 of 50 |" in leaderboard_section(boards()[0])


def test_what_seconds_were_measured_on_is_said(add, boards):
    add(cost=Cost(threads=2), environment={"cpu": "Some CPU", "gpu": None})
    add("B", cost=Cost(threads=1), environment={"cpu": "Some CPU", "gpu": "H200"})
    text = leaderboard_section(boards()[0])
    assert "seconds measured on 2 threads, Some CPU: HeLLM" in text
    assert "seconds measured on 1 thread, H200, Some CPU: B" in text


def test_without_the_mask_the_words_are_others(add, boards):
    add()
    text = leaderboard_section(boards("none")[0])
    assert "also those the user met in training" in text
    assert "epoch chosen on validation under mask train, not none: HeLLM" in text


def test_recall_is_no_hit_rate_with_several_test_items(add, boards):
    add(protocol="rate", single_target=False)
    text = leaderboard_section(boards()[0])
    assert "HR@" not in text and "R@10" in text and "test ratings of 4 and 5" in text


def test_seeds_are_shown_with_their_interval(add, boards):
    for seed in (1, 2):
        add(seed=seed, hit=0.2 * seed)
    text = leaderboard_section(boards()[0])
    assert (
        " ± 0." in rows_of(text)[2] and " 1, 2 " in rows_of(text)[2] and "95 % t-interval over seeds" in text
    )


def test_rows_of_a_note_are_named_in_few_words(add, boards):
    add("A", notes=["for all", "of one", "for most"])
    add("B", variant="x", notes=["for all", "of one", "of two"])
    add("B", variant="y", notes=["for all", "of two", "for most"])
    text = leaderboard_section(boards()[0])
    for told in ("for all: all rows", "of one: A, B (x)", "of two: every B", "for most: A, B (y)"):
        assert f"* {told}\n" in text + "\n"


def test_notes_are_said_once_with_the_rows_they_concern(add, boards):
    add("A", backbone="builtin:t5-mini", text_encoder="all-MiniLM-L6-v2", notes=["provenance unknown"])
    add("B", backbone="builtin:t5-mini", stages=[Stage(model="SASRec", key="0123456789abcdef")])
    add("C", settings={"d": 32})
    add("C", settings={"d": 64}, hit=0.3)
    add("D", stages=[Stage(model="SASRec", key="0123456789ab"), Stage(model="D", key="ba9876543210")])
    text = leaderboard_section(boards()[0])
    assert text.count("never compare with published numbers") == 1 and "billions of parameters: A, B" in text
    assert "* text encoder all-MiniLM-L6-v2: A\n" in text and "* provenance unknown: A\n" in text
    assert "stands on SASRec 01234567; their time is not in this row: B, D" in text
    assert "one training with D ba987654, whose time is in this row: D" in text
    assert "rows of C differ:" in text and "has d=32" in text and "has d=64" in text


def test_models_that_were_expected_are_listed_with_their_command(add, boards):
    add()
    text = leaderboard_section(boards()[0], ["HeLLM", "SASRec"])
    assert "SASRec" in rows_of(text)[3] and "not run" in rows_of(text)[3]
    assert cells(rows_of(text)[0]) == cells(rows_of(text)[3])
    assert "python benchmarks/run.py --model=SASRec --dataset=beauty --preset=standard --protocol=seq" in text
    assert "--model=HeLLM" not in text


def test_a_table_where_nothing_was_run():
    text = leaderboard_section(empty_leaderboard("toys", "", "standard", ""), ["HeLLM"])
    assert "Nothing was run here yet" in text
    assert "python benchmarks/run.py --model=HeLLM --dataset=toys --preset=standard\n" in text


def test_hostile_names_stay_text_everywhere(add, boards):
    add(
        HOSTILE,
        dataset=HOSTILE,
        variant=HOSTILE,
        backbone=HOSTILE,
        notes=[HOSTILE],
        split_fingerprint=HOSTILE,
    )
    add(HOSTILE, dataset=HOSTILE, settings={HOSTILE: HOSTILE}, split_fingerprint=HOSTILE)
    add(HOSTILE, dataset=HOSTILE, settings={HOSTILE: 1}, split_fingerprint=HOSTILE)
    (board,) = boards()
    text = leaderboard_section(board, [HOSTILE, "x|y\n```\n<b>"])
    assert len({cells(line) for line in rows_of(text)}) == 1
    rendered = rendered_html(text)
    for tag in ("<script", "<img", "<a href", "<b>"):
        assert tag not in rendered
    assert rendered.count("<pre>") == 1


def test_commands_are_quoted_for_the_shell():
    board = empty_leaderboard("my data", "seq", "standard", "train")
    assert run_command(board, "a;rm -rf /") == (
        "python benchmarks/run.py --model='a;rm -rf /' --dataset='my data' --preset=standard --protocol=seq"
    )


def test_tokens_and_money_have_columns_only_where_somebody_paid(add, boards):
    add(hit=0.5)
    assert "tokens in" not in leaderboard_section(boards()[0])
    add("Asker", hit=0.1, cost=Cost(tokens_in=1_200_000, tokens_out=340, money=1.5, seconds_to_best=90))
    header, _, first, second = rows_of(leaderboard_section(boards()[0]))
    assert "tokens in" in header and "US$" in header and "GPU MB" not in header
    assert "1.20M" in second and " 340 |" in second and "1.50 |" in second and "1.5 |" in second
    assert cells(header) == cells(first)


def test_precision_stands_where_it_says_more_than_recall(add):
    told = {"precision@10": 0.25, "precision@20": 0.2, "recall@10": 0.3, "ndcg@10": 0.2}
    frame = runs_frame(read_stores([add("A").parents[2]]).runs)
    for single in (True, False):
        made = leaderboards(frame.assign(single_target=single, **told))
        (board,) = [b for b in made if b.mask == "train"]
        assert ("P@10" in leaderboard_section(board)) is not single


def test_the_spread_over_users_is_no_spread_over_seeds(add, boards):
    for seed in (1, 2):
        add(seed=seed, hit=0.3)
    text = leaderboard_section(boards()[0])
    header, _, row = rows_of(text)
    place = header.split("|").index(next(cell for cell in header.split("|") if "± users" in cell))
    half = float(row.split("|")[place].strip(" ±"))
    values = users_of(boards()[0].rows["folders"][0], "train")["ndcg@10"]
    assert half == pytest.approx(1.97 * values.std() / len(values) ** 0.5, abs=1e-4)

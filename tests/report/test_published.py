"""Published tables: every file whole, every number possible or known not to be, set beside the right run."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.report.against import beside
from recbole_llmgraph.report.against_page import published_page
from recbole_llmgraph.report.feasible import infeasible
from recbole_llmgraph.report.published import (
    PublishedCell,
    published_cells,
    published_folder,
    published_table,
    published_tables,
)
from recbole_llmgraph.store.per_user import PerUser

NAMES = sorted(published_tables())
#: Every row of the four papers whose metrics cannot all be right.
IMPOSSIBLE = {
    ("galrec_table1_3", "LightGCN", "toys"),
    ("galrec_table1_3", "CID", "toys"),
    ("galrec_table1_3", "IID", "toys"),
    ("galrec_table1_3", "P5", "beauty"),
    ("galrec_table1_3", "CID", "beauty"),
    ("galrec_table1_3", "SID", "beauty"),
    ("galrec_table1_3", "GAL(SASRec)", "yelp"),
    ("galrec_table1_3", "w/o GAL(LightGCN)", "yelp"),
    ("galrec_table1_3", "w/o GAL(Text)", "yelp"),
    ("galrec_table4_5", "w/o L3", "toys"),
    ("galrec_table4_5", "1-hop", "toys"),
}


def test_every_paper_is_there_and_every_file_has_its_other_half() -> None:
    assert {name.partition("_")[0] for name in NAMES} == {"galrec", "hellm", "llmpngnn", "lagcl4rec"}
    assert {path.stem for path in published_folder().glob("*.csv")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_whole_and_says_where_it_stands(name: str) -> None:
    table = published_table(name)
    assert table.source and table.paper and re.match(r"https://|^$", table.url)
    for cell in published_cells(table):
        assert dataset_card(cell.dataset).name == cell.dataset
        if table.kind == "metrics":
            assert 0 < cell.value < 1 and table.protocol in dataset_card(cell.dataset).protocols
    with (published_folder() / f"{name}.csv").open() as stream:
        columns = next(csv.reader(stream))
    told = {table.row, table.group, table.dataset_column} - {""}
    prefixes = {f"{prefix}_{metric}" for prefix in table.datasets for metric in table.metrics}
    assert set(columns) <= told | prefixes | set(table.metrics) | set(table.counts)
    for correction in table.corrections:
        assert correction.why
        assert (correction.column in columns) == bool(correction.column)
        assert bool(correction.column) == bool(correction.row) == bool(correction.printed)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_possible_or_known_not_to_be(name: str) -> None:
    cells = published_cells(published_table(name))
    struck = {(name, cell.row, cell.dataset) for cell in cells if not cell.feasible}
    assert struck == {known for known in IMPOSSIBLE if known[0] == name}
    grown: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for cell in cells:
        kind, at, k = cell.metric.partition("@")
        if at:
            hits = cell.value * int(k) if kind == "precision" else cell.value
            grown.setdefault((cell.row, cell.dataset, kind), []).append((int(k), hits))
    for values in grown.values():  # a longer list never loses a hit, nor gain
        assert sorted(values) == sorted(values, key=lambda pair: pair[1])


def test_one_number_of_two_tables_is_one_number() -> None:
    whole = {(c.dataset, c.metric): c.value for c in cells_of("galrec_table1_3", "GAL(LightGCN)")}
    for row in ("ALL", "2-hop"):
        parts = cells_of("galrec_table4_5", row)
        assert [whole[c.dataset, c.metric] for c in parts] == pytest.approx([c.value for c in parts])
    table = {(c.dataset, c.metric): c.value for c in cells_of("hellm_table1", "HeLLM")}
    logs = {(c.dataset, c.metric): c.value for c in cells_of("hellm_release_logs", "fine-tune")}
    assert {place for place in logs if logs[place] != table[place]} == {("toys", "recall@10")}


def cells_of(name: str, row: str) -> list[PublishedCell]:
    return [cell for cell in published_cells(published_table(name)) if cell.row == row]


def test_corrected_cells_remember_what_was_printed() -> None:
    cells = {(c.row, c.dataset, c.metric): c for c in published_cells(published_table("galrec_table1_3"))}
    assert cells["LightGCN", "toys", "recall@10"].printed == "0.440"
    assert cells["LightGCN", "toys", "recall@10"].value == 0.0440
    assert sum(bool(cell.printed) for cell in cells.values()) == 5


def printed(ranks: np.ndarray, places: int) -> list[PublishedCell]:
    """A row as a paper would print it."""
    means = PerUser.from_ranks({"none": ranks}, ["recall@5", "ndcg@5", "recall@10", "ndcg@10"]).means()
    half = 0.5 * 10.0**-places
    return [PublishedCell("r", "d", m, round(v, places), half) for m, v in means["none"].items()]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(2, 6))
def test_numbers_that_come_from_ranks_are_never_struck_out(ranks: list[int], places: int) -> None:
    assert infeasible(printed(np.array(ranks), places)) == set()


@pytest.mark.parametrize(
    ("changed", "value"),
    [("recall@10", 0.44), ("ndcg@5", 0.9), ("ndcg@5", 0.01), ("ndcg@10", 0.55), ("recall@5", 0.05)],
)
def test_a_slipped_digit_is_found(changed: str, value: float) -> None:
    ranks = np.tile([0, 0, 1, 3, 9, 0, 0, 0], 50)
    cells = printed(ranks, 4)
    bad = [PublishedCell("r", "d", c.metric, value, c.half) if c.metric == changed else c for c in cells]
    assert ("d", changed) in infeasible(bad) and infeasible(cells) == set()


# --- beside the store ----------------------------------------------------------------


def lines(boards, name: str) -> dict:
    (found,) = beside(boards, [name])
    return {(line.row, line.dataset): line for line in found.lines}


def read(boards) -> list:
    return boards("train") + boards("none")


def test_a_row_is_measured_under_its_own_mask_and_protocol(add, boards) -> None:
    add("HeLLM", seed=1)
    add("HeLLMPre")
    add("HeLLM", protocol="other", hit=0.9)
    add("HeLLM", preset="quick", hit=0.9)
    found = lines(read(boards), "hellm_table3")
    assert found["HeLLM", "beauty"].found.board.mask == "none"
    assert found["HeLLM_pre", "beauty"].found.board.mask == "train"
    line = found["HeLLM", "beauty"]
    (board,) = [b for b in boards("none") if b.protocol == "seq" and b.preset == "standard"]
    mean = board.rows.set_index("model").loc["HeLLM", "recall@20"]
    cell = line.cells["recall@20"]
    assert cell.measured == mean and cell.difference == mean - 0.1021
    assert (
        found["HeLLM", "sports"].found is None and found["HeLLM", "sports"].cells["ndcg@20"].measured is None
    )
    assert all(line.found is None for line in lines(read(boards), "galrec_table1_3").values())


def test_ablations_are_measured_by_ablations_alone(add, boards) -> None:
    def settings(**changes):
        whole = {"prefix": "graph", "use_graph_id": True, "use_sequence_id": True}
        return {"settings": {**whole, **changes}}

    add("HeLLM", hit=0.9, variant="prefix=learned", **settings(prefix="learned"))
    found = lines(read(boards), "hellm_table3")
    assert found["HeLLM w/o-GNN_PEFT", "beauty"].found and found["HeLLM", "beauty"].found is None
    add("HeLLM", hit=0.1, **settings())
    add("HeLLM", hit=0.8, **settings(use_graph_id=False, prefix="learned"))
    found = lines(read(boards), "hellm_table3")
    assert found["HeLLM", "beauty"].found.settings["prefix"] == "graph"
    assert found["HeLLM w/o-GNN_PEFT", "beauty"].found.settings["use_graph_id"] is True
    assert found["HeLLM w/o-GNN_ID", "beauty"].found is None


def test_of_several_runs_the_one_that_validated_best_speaks_whatever_the_test_says(add, boards) -> None:
    for tau, valid, hit in ((0.1, 0.2, 0.1), (0.2, 0.3, 0.05), (0.3, 0.1, 0.9)):
        told = {mask: {"ndcg@10": valid} for mask in ("none", "train")}
        add("HeLLM", hit=hit, settings={"tau": tau}, valid=told)
    found = lines(read(boards), "hellm_table1")["HeLLM", "beauty"].found
    assert found.settings == {"tau": 0.2}


def test_seeds_give_an_interval_and_impossible_cells_no_difference(add, boards, tmp_path: Path) -> None:
    for seed in (1, 2):
        add("LightGCN", seed=seed, dataset="toys")
    page = published_page(beside(read(boards), ["galrec_table1"], ["toys"]), tmp_path).text
    (row,) = [line for line in page.splitlines() if line.startswith("| LightGCN")]
    assert "~~0.0440†~~" in row and " ± " in row
    assert not re.search(r"\| *[+-]\d", row)
    assert "**Measured with: LightGCN: none, preset standard**" in page


def test_the_page_shows_every_table_also_from_an_empty_store() -> None:
    page = published_page(beside([])).text
    for table in published_tables().values():
        assert f"## {table.title}" in page
    assert page.count("**Measured with: nothing was run**") == 7
    assert re.search(r"\| Beauty +\| +22,363 \| +22,363 \| +\+0 \|", page)
    with pytest.raises(UserError, match="no published table 'galaxy'"):
        beside([], ["galaxy"])


def test_counts_agree_with_the_dataset_cards() -> None:
    for name in ("galrec_table2", "hellm_table2"):
        for line in beside([], [name])[0].lines:
            for cell in line.cells.values():
                assert cell.measured == pytest.approx(cell.published.value, abs=1.01 * cell.published.half)


def test_no_number_is_lost_on_the_page() -> None:
    page = published_page(beside([])).text
    for table in published_tables().values():
        for cell in published_cells(table):
            places = max(0, round(-math.log10(2 * cell.half)))
            assert f"{cell.value:,.{places}f}" in page

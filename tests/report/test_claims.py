"""The ledger of claims: well formed, decided as its docstring says, by the runs it should be decided by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.report.claims import (
    Claim,
    Ledger,
    choose_ledgers,
    decide,
    judge,
    ledgers,
    overall,
    read_ledger,
)
from recbole_llmgraph.report.claims_page import claims_page
from recbole_llmgraph.report.paired import gain_interval, mean_interval
from recbole_llmgraph.report.published import published_cells, published_table

LEAST = {"galrec": 8, "hellm": 8, "llmpngnn": 4, "lagcl4rec": 4, "multimodal": 21}


def ledger(*claims: dict) -> Ledger:
    base = {"where": "here", "datasets": ["beauty"], "metrics": ["recall@10"]}
    named = [Claim.read({"name": f"c{i}", "says": f"claim {i}", **base, **c}) for i, c in enumerate(claims)]
    return Ledger(name="l", paper="P", backbone="B", protocol="seq", mask="train", claims=named)


def versus(a: dict, b: dict, **more) -> dict:
    return {"better": [a], "than": [b], **more}


HELLM, SASREC = {"model": "HeLLM"}, {"model": "SASRec"}


def test_every_paper_has_its_claims_and_each_can_be_judged() -> None:
    for name, least in LEAST.items():
        assert len(ledgers()[name].claims) >= least
    for one in ledgers().values():
        assert one.backbone
        for claim in one.claims:
            assert claim.says and claim.where and claim.comparisons
            for dataset in claim.datasets:
                assert one.protocol in dataset_card(dataset).protocols
            for a, b in claim.comparisons:
                assert a != b
    assert [one.name for one in choose_ledgers(["he", "lag"])] == ["hellm", "lagcl4rec"]
    with pytest.raises(UserError, match="no ledger of claims 'x'"):
        choose_ledgers(["x"])


@pytest.mark.parametrize(
    ("ledger", "block"),
    [
        ("multimodal", {"LightGCN", "VBPR", "GRCN", "LATTICE", "SLMRec", "BM3", "FREEDOM"}),
        ("hellm", {"CoLLM", "LLaRA", "HeLLM"}),
    ],
)
def test_a_block_is_claimed_as_it_is_printed(ledger: str, block: set[str]) -> None:
    """Every pair of HeLLM's Table 1 without a language model, and with one, each metric as it is printed."""
    cells = [cell for cell in published_cells(published_table("hellm_table1")) if cell.row in block]
    values = {(cell.row, cell.dataset, cell.metric): cell.value for cell in cells}
    printed = {
        (a, b, dataset, metric)
        for (a, dataset, metric), value in values.items()
        for b in block - {a}
        if value > values[b, dataset, metric]
    }
    claimed = [
        (better.model, than.model, dataset, metric)
        for claim in ledgers()[ledger].claims
        for better, than in claim.comparisons
        if {better.model, than.model} <= block and better.model != than.model
        for dataset in claim.datasets
        for metric in claim.metrics
    ]
    assert len(claimed) == len(set(claimed)) and set(claimed) == printed


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.02, "reproduced"), (-0.02, -0.01, "not reproduced"), (-0.01, 0.02, "undecided")]
    + [(0.0, 0.1, "undecided"), (0.0, 0.0, "not reproduced"), (-0.1, 0.0, "not reproduced")],
)
def test_a_difference_is_decided_by_its_interval(low: float, high: float, verdict: str) -> None:
    assert decide(low, high, 0.0, float("inf")) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.08, 0.14, "reproduced"), (0.05, 0.10, "undecided"), (0.10, 0.20, "undecided")]
    + [
        (0.16, 0.30, "not reproduced"),
        (-0.1, 0.07, "not reproduced"),
        (float("nan"), float("nan"), "undecided"),
    ],
)
def test_a_gain_is_decided_by_its_range(low: float, high: float, verdict: str) -> None:
    assert decide(low, high, 0.07, 0.15) == verdict


def test_all_comparisons_must_hold() -> None:
    assert overall(["reproduced", "reproduced"]) == "reproduced"
    assert overall(["reproduced", "undecided"]) == "undecided"
    assert overall(["undecided", "not run"]) == "not run"
    assert overall(["not run", "not reproduced", "reproduced"]) == "not reproduced"


def test_verdicts_come_from_the_store(add, boards) -> None:
    add("HeLLM", hit=0.6)
    add("SASRec", hit=0.1)
    add("Twin", hit=0.6)
    twin = {"model": "Twin"}
    made = ledger(
        versus(HELLM, SASREC),
        versus(SASREC, HELLM),
        versus(HELLM, twin),
        versus(HELLM, {"model": "Pop"}),
        {"better": [HELLM], "than": [SASREC, {"model": "Pop"}]},
        versus(HELLM, SASREC, metrics=["recall@15"]),
        versus(HELLM, SASREC, datasets=["beauty", "toys"]),
        versus(HELLM, SASREC, gain=[1.0, 20.0]),
        versus(HELLM, SASREC, gain=[0.07, 0.15]),
        {"pairs": [[HELLM, SASREC], [SASREC, HELLM]]},
    )
    judged = judge(made, boards())
    assert [one.verdict for one in judged] == [
        "reproduced",
        "not reproduced",
        "undecided",
        "not run",
        "not run",
        "not run",
        "not run",
        "reproduced",
        "not reproduced",
        "not reproduced",
    ]
    assert judged[6].decided == {"beauty": "reproduced"} and judged[6].there == 1
    (one,) = judged[0].evidence
    (board,) = boards()
    rows = board.rows.set_index("model")["recall@10"]
    assert one.weighed.means == pytest.approx((rows["HeLLM"], rows["SASRec"]))
    assert one.weighed.interval[0] < one.weighed.value < one.weighed.interval[1]
    assert one.weighed.seeds == 1 and np.isnan(one.weighed.seed_half)
    assert [found.claim.name for found in judge(made, boards(), ["toys"])] == ["c6"]


def test_sweeps_differ_in_nothing_but_what_is_named(add, boards) -> None:
    five, one = ({"model": "HeLLMPre", "set": {"knn_k": k}} for k in (5, 1))
    made = ledger(versus(five, one))

    def told(k: int, tau: float, hit: float) -> None:
        valid = {"train": {"ndcg@10": hit}}
        add("HeLLMPre", hit=hit, settings={"knn_k": k, "tau": tau}, valid=valid)

    told(5, 0.1, 0.9)
    told(1, 0.3, 0.2)
    assert judge(made, boards())[0].verdict == "not run"
    told(5, 0.3, 0.5)
    (one,) = judge(made, boards())[0].evidence
    assert [found.settings for found in one.found] == [{"knn_k": 5, "tau": 0.3}, {"knn_k": 1, "tau": 0.3}]
    assert one.weighed.verdict == "reproduced"


def test_rows_of_two_tables_decide_nothing(add, boards) -> None:
    add("HeLLM", hit=0.6)
    add("SASRec", hit=0.1, split_fingerprint="other")
    add("SASRec", hit=0.1, preset="quick")
    add("HeLLM", hit=0.6, preset="quick")
    assert judge(ledger(versus(HELLM, SASREC)), boards())[0].verdict == "not run"


def test_seeds_and_users_are_kept_apart(add, boards) -> None:
    for seed in (1, 2, 3):
        add("HeLLM", hit=0.6, seed=seed)
        add("SASRec", hit=0.3, seed=seed + 1)
    (one,) = judge(ledger(versus(HELLM, SASREC)), boards())[0].evidence
    assert one.weighed.seeds == 2
    (board,) = boards()
    runs = board.runs.set_index(["model", "seed"])["recall@10"]
    both = np.array([runs["HeLLM", seed] - runs["SASRec", seed] for seed in (2, 3)])
    assert one.weighed.value == pytest.approx(both.mean())
    assert one.weighed.seed_half == pytest.approx(12.706 * both.std(ddof=1) / np.sqrt(2), rel=1e-3)


def test_the_page_says_backbone_budget_and_interval(add, boards, tmp_path) -> None:
    add("HeLLM", hit=0.6, backbone="builtin:llama-mini", budget={"epochs": 5})
    add("SASRec", hit=0.1)
    made = ledger(versus(HELLM, SASREC, says="<b>A|B</b> wins"), versus(SASREC, {"model": "Pop"}))
    text = claims_page([(made, judge(made, boards()))], tmp_path).text
    assert "**reproduced**" in text and "not run (0 of 1 comparisons)" in text
    assert "HeLLM: backbone builtin:llama-mini, budget epochs 5, 10 epochs run" in text
    assert "<b>" not in text and "&lt;b&gt;A\\|B" in text
    assert "| P     |          1 |              0 |         0 |       1 |" in text


def test_a_ledger_that_says_nothing_decidable_is_refused(tmp_path) -> None:
    path = tmp_path / "bad.yaml"
    text = "paper: P\nbackbone: B\nprotocol: seq\nmask: train\nclaims:\n  one: {says: a, where: b, "
    path.write_text(text + "datasets: [beauty], metrics: [recall@10], better: [{model: A}]}\n")
    with pytest.raises(UserError, match=r"bad\.yaml: one: give either pairs, or better and than"):
        read_ledger(path)
    path.write_text(text + "datasets: [beauty], metrcs: [recall@10]}\n")
    with pytest.raises(UserError, match="Did you mean 'metrics'"):
        read_ledger(path)


# --- intervals -----------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.integers(200, 400))
def test_the_t_interval_is_the_bootstraps(seed: int, users: int) -> None:
    from scipy import stats

    values = np.random.default_rng(seed).choice([0.0, 0.0, 1.0, 0.5, -1.0], users)
    low, high = mean_interval(values)
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=3_000, method="percentile", rng=0
    ).confidence_interval
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.12 * (high - low))


def test_intervals_of_nothing_have_no_width() -> None:
    assert mean_interval(np.zeros(9)) == (0.0, 0.0) and mean_interval(np.array([])) == (0.0, 0.0)
    assert np.isnan(gain_interval(np.ones(5), np.zeros(5))).all()


def test_the_gain_of_planted_users_is_covered() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for draw in range(40):
        b = (rng.random(600) < 0.3).astype(float)
        a = np.where(
            rng.random(600) < 0.5, b, (rng.random(600) < 0.45).astype(float)
        )  # mean 0.375: a gain of 25 %
        low, high = gain_interval(a, b, resamples=299, seed=draw)
        covered += low <= 0.25 <= high
    assert covered >= 33

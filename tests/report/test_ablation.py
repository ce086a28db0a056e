"""Ablation tables: differences to the whole model over the same users, Holm over the whole table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_llmgraph.report.ablation import FULL, Arm, ablation_frame, ablation_page, published_arms
from recbole_llmgraph.store.runs import StoredRun, read_run

METRICS = ["recall@20", "ndcg@20"]


@pytest.fixture
def arm(add: Callable[..., Path]) -> Callable[..., Arm]:
    def make(
        name: str, hit: float, seeds: tuple[int, ...] = (1,), model: str = "HeLLMPre", **more: Any
    ) -> Arm:
        changes, variant = more.pop("changes", {}), more.pop("variant", "")
        folders = [
            add(
                model,
                hit=hit,
                seed=seed,
                variant=variant,
                settings={"tau": 0.3, **more.get("settings", {}), **changes},
            )
            for seed in seeds
        ]
        return Arm(name, changes, [StoredRun(read_run(f), f) for f in folders], f"run {name}")

    return make


def users(arm: Arm, column: str) -> np.ndarray:
    found = [run.per_user().to_frame()[column].to_numpy() for run in arm.runs]
    return np.asarray(np.mean(found, axis=0))


def holm_by_hand(p: list[float]) -> list[float]:
    """Holm's step-down: the k-th smallest of m times (m − k + 1), never smaller than the one before."""
    adjusted, top = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        top = max(top, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = top
    return adjusted


def test_numbers_against_plain_arithmetic(arm: Callable[..., Arm]) -> None:
    arms = [
        arm(FULL, 0.5, (1, 2)),
        arm("no_u2u", 0.3, (1, 2), changes={"use_u2u": False}),
        arm("no_cl", 0.495, (1, 2), changes={"use_cl": False}),
    ]
    frame = ablation_frame(arms, "train", METRICS, resamples=999)
    assert list(zip(frame["arm"], frame["metric"], strict=True)) == [
        (a.name, m) for a in arms for m in METRICS
    ]
    rows = {(row["arm"], row["metric"]): row for row in frame.to_dict("records")}
    for metric in METRICS:
        base = users(arms[0], f"{metric}|train")
        assert rows[FULL, metric]["mean"] == pytest.approx(base.mean())
        assert np.isnan(rows[FULL, metric]["p"]) and np.isnan(rows[FULL, metric]["holm"])
        for one in arms[1:]:
            d = users(one, f"{metric}|train") - base
            row = rows[one.name, metric]
            assert row["difference"] == pytest.approx(d.mean())
            assert row["relative"] == pytest.approx(d.mean() / base.mean())
            assert row["effect"] == pytest.approx(d.mean() / d.std(ddof=1))
            assert row["low"] < d.mean() < row["high"]
    tested = frame[frame["p"].notna()]
    assert list(tested["holm"]) == pytest.approx(holm_by_hand(list(tested["p"])))
    assert rows["no_u2u", "recall@20"]["holm"] < 0.05 < rows["no_cl", "recall@20"]["p"]


def test_seeds_must_be_the_same(arm: Callable[..., Arm]) -> None:
    with pytest.raises(ValueError, match=r"no_cl has seeds \[2\], the whole model \[1\]"):
        ablation_frame([arm(FULL, 0.5), arm("no_cl", 0.4, (2,))], "train", METRICS)
    with pytest.raises(ValueError, match="the whole model was not run"):
        ablation_frame([Arm(FULL, {}, []), arm("no_cl", 0.4)], "train", METRICS)


def test_hellms_table_3_stands_beside_its_parts(arm: Callable[..., Arm]) -> None:
    arms = [arm(FULL, 0.5), arm("no_u2u", 0.4, changes={"use_u2u": False}),
            arm("no_i2i", 0.4, changes={"use_i2i": False})]  # fmt: skip
    table, found = published_arms(arms, "HeLLMPre", "beauty")
    assert table is not None and table.name == "hellm_table3"
    told = {key: cell.value for key, cell in found.items()}
    assert told == {
        (FULL, "recall@20"): 0.0820, (FULL, "ndcg@20"): 0.0342,
        ("no_u2u", "recall@20"): 0.0736, ("no_u2u", "ndcg@20"): 0.0294,
        ("no_i2i", "recall@20"): 0.0719, ("no_i2i", "ndcg@20"): 0.0290,
    }  # fmt: skip
    page = ablation_page(arms, "train", METRICS).text
    assert "-10.2%" in page  # .0736 / .0820
    assert "HeLLM, Table 3" in page and "mask `train`" in page


def test_galrecs_losses_are_found_by_the_settings_that_they_share(arm: Callable[..., Arm]) -> None:
    settings = {"source": "lightgcn", "drop": "none"}
    arms = [arm(FULL, 0.5, model="GALRec", settings=settings),
            arm("no_l1", 0.4, model="GALRec", settings=settings, changes={"drop": "L1"})]  # fmt: skip
    table, found = published_arms(arms, "GALRec", "toys")
    assert table is not None and table.name == "galrec_table4_5"
    assert found["no_l1", "recall@10"].value == pytest.approx(0.0400)
    other = [
        arm(FULL, 0.5, model="GALRec", settings={"source": "text", "drop": "none"}, seeds=(3,)),
        arm("no_l1", 0.4, model="GALRec", settings={"source": "text"}, changes={"drop": "L1"}, seeds=(3,)),
    ]
    assert published_arms(other, "GALRec", "toys") == (None, {})  # published for LightGCN's source only


def test_a_model_nobody_published_has_no_such_columns(arm: Callable[..., Arm]) -> None:
    arms = [arm(FULL, 0.5, model="Made"), arm("half", 0.4, model="Made", changes={"a": 1})]
    assert published_arms(arms, "Made", "beauty") == (None, {})
    text = ablation_page(arms, "train", METRICS).text
    assert "published" not in text and "| half" in text and "`a=1`" in text


def test_a_variant_that_was_not_run_is_named_with_its_command(arm: Callable[..., Arm]) -> None:
    arms = [arm(FULL, 0.5), Arm("no_cl", {"use_cl": False}, [], "python benchmarks/run.py --x")]
    text = ablation_page(arms, "train", METRICS).text
    assert "Not run:\n\n* no\\_cl: `python benchmarks/run.py --x`" in text


def test_what_all_rows_share_stands_above_them_and_in_the_file_name(arm: Callable[..., Arm]) -> None:
    """Two ablations of a model, from two sources, must be told apart."""
    told = ablation_page([arm(FULL, 0.5), arm("no_cl", 0.4, changes={"use_cl": False})], "train", METRICS)
    assert told.name == "HeLLMPre-beauty.md" and "all rows have" not in told.text
    shared = arm(FULL, 0.5, variant="epochs=6 source=text")
    other = ablation_page([shared, arm("no_cl", 0.4, changes={"use_cl": False})], "train", METRICS)
    assert other.name == "HeLLMPre-beauty-epochs_6_source_text.md"
    assert "all rows have `epochs=6 source=text`" in other.text
    assert f"`{shared.runs[0].record.key[:8]}`" in other.text


def test_hostile_names_stay_text(arm: Callable[..., Arm]) -> None:
    arms = [arm(FULL, 0.5), arm("<b>|x", 0.4, changes={"a|`b": "<i>"})]
    text = ablation_page(arms, "train", METRICS).text
    assert "<b>" not in text and "&lt;b&gt;" in text
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1

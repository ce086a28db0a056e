"""Writes the invented sweeps beside this file: smooth formulas and a little seeded noise, no measurement.

Run it again after a change of the file format: `python tests/report/demo/make.py`.
"""

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llmgraph.store.record import Code
from recbole_llmgraph.store.sweeps import Chosen, Halving, Sweep
from recbole_llmgraph.store.trials import Epoch, Trial

HERE = Path(__file__).parent
EPOCHS = 9
Shape = Callable[[dict[str, Any]], float]


def trial(model: str, dataset: str, point: dict[str, Any], seed: int, top: float, place: int) -> Trial:
    """A trial whose validation rises towards `top` (its NDCG@20)."""
    dice = np.random.default_rng([seed, place, len(dataset)])
    top *= 1 + 0.02 * float(dice.normal())
    scores = [top * (1 - math.exp(-0.5 * epoch)) for epoch in range(1, EPOCHS + 1)]
    seconds = round(20.0 * (1 + 0.1 * sum(v for v in point.values() if isinstance(v, int | float))), 2)
    wider = 1 + 0.03 * float(dice.normal())
    found = {"ndcg@20": round(scores[-1], 5), "recall@20": round(2.4 * wider * scores[-1], 5)}
    return Trial(
        key=f"made{place:04d}s{seed}{dataset[:3]}", point=point, model=model, dataset=dataset,
        protocol="seq", preset="standard", seed=seed, mask="train", metric="ndcg@20", status="finished",
        history=[Epoch(epoch=e, valid=round(s, 5), seconds=seconds) for e, s in enumerate(scores, 1)],
        valid={"train": found}, epochs_planned=EPOCHS, epochs_run=EPOCHS, best_epoch=EPOCHS,
        seconds=round(seconds * EPOCHS, 2), parameters=1_000_000, split_fingerprint="made",
        machine="no machine", code=Code(version="0.1.0"),
        finished=f"2026-01-01T{place // 60:02d}:{place % 60:02d}:00",
    )  # fmt: skip


def figure(name: str, model: str, panels: list[dict[str, list[Any]]], datasets: list[str], seeds: list[int],
           shape: Shape, base: dict[str, Any]) -> Sweep:  # fmt: skip
    """A sweep over every tick of every panel."""
    trials: list[Trial] = []
    for ticks, dataset, seed in product(panels, datasets, seeds):
        for values in product(*ticks.values()):
            point = dict(zip(ticks, values, strict=True))
            trials.append(trial(model, dataset, point, seed, shape({**base, **point}), len(trials)))
    return Sweep(
        name=name, purpose="figure", search="grid", model=model, datasets=datasets, seeds=seeds,
        panels=[list(ticks) for ticks in panels], ticks={k: v for ticks in panels for k, v in ticks.items()},
        base={dataset: base for dataset in datasets}, metrics=["recall@20", "ndcg@20"], made=True,
        trials=[t.model_copy(update={"history": []}) for t in trials],
    )  # fmt: skip


def search(name: str, model: str, shape: Shape) -> Sweep:
    """A search of which ASHA pruned the weaker half."""
    dice = np.random.default_rng(7)
    trials = []
    for place in range(14):
        point = {
            "learning_rate": float(f"{10 ** dice.uniform(-4, -2):.3g}"),
            "n_layers": int(dice.integers(1, 5)),
        }
        whole = trial(model, "beauty", point, 1, shape(point), place)
        if whole.valid["train"]["ndcg@20"] < 0.03 and place > 3:
            cut = whole.history[: 3 if place % 2 else 1]
            whole = whole.model_copy(update={
                "status": "pruned", "history": cut, "valid": {}, "epochs_run": len(cut),
                "seconds": round(sum(e.seconds for e in cut), 2), "best_epoch": 0,
            })  # fmt: skip
        trials.append(whole)
    best = max(trials, key=lambda t: t.score or 0.0)
    return Sweep(
        name=name, purpose="tune", search="optuna", model=model, datasets=["beauty"], seeds=[1],
        panels=[["learning_rate", "n_layers"]],
        ticks={"learning_rate": [1e-4, 1e-2], "n_layers": [1, 2, 3, 4]},
        base={"beauty": {"learning_rate": 1e-3, "n_layers": 2}}, metrics=["ndcg@20"],
        halving=Halving(grace=1, factor=3), importance={"learning_rate": 0.83, "n_layers": 0.17}, made=True,
        chosen=Chosen(point=best.point, valid=best.score or 0.0, keys=[best.key], test={"ndcg@20": 0.0317}),
        trials=trials,
    )  # fmt: skip


def hill(value: float, top: float, width: float) -> float:
    return math.exp(-(((value - top) / width) ** 2))


def sweeps() -> list[Sweep]:
    """One for each layout."""
    three = ["sports", "beauty", "toys"]
    return [
        figure("galrec-figure-5", "GALRec", [
            {"tau": [0.05, 0.1, 0.15, 0.2]}, {"queue_length": [128, 256, 512, 1024, 2048]},
            {"hop2_neighbors": [2, 4, 6, 8, 10]},
        ], ["beauty"], [1, 2, 3],
            lambda p: 0.03 * hill(p["tau"], 0.1, 0.2) * (1 + 0.02 * math.log2(p["queue_length"]) / 9)
            * (1 + 0.01 * p["hop2_neighbors"]),
            {"tau": 0.1, "queue_length": 512, "hop2_neighbors": 8}),
        figure("hellm-figure-3", "HeLLMPre", [{"knn_k": [1, 5, 10, 20]}, {"tau": [0.1, 0.3, 0.5, 0.7, 1.0]}],
               three, [1, 2], lambda p: 0.033 * hill(math.log(p["knn_k"]), 2.2, 4) * hill(p["tau"], 0.5, 1.2),
               {"knn_k": 10, "tau": 0.5}),
        figure("hellm-figure-4", "HeLLMPre",
               [{"alpha": [0.0, 0.1, 0.3, 0.5, 0.7, 0.9], "beta": [0.0, 0.1, 0.3, 0.5, 0.7, 0.9]}],
               ["beauty", "toys"], [1],
               lambda p: 0.033 * hill(p["alpha"], 0.8, 1.2) * hill(p["beta"], 0.1, 1.0),
               {"alpha": 0.9, "beta": 0.1}),
        search("search", "LightGCN",
               lambda p: 0.034 * hill(math.log10(p["learning_rate"]), -2.6, 1) * hill(p["n_layers"], 2, 4)),
    ]  # fmt: skip


if __name__ == "__main__":
    for sweep in sweeps():
        print(sweep.write(HERE / sweep.name))

"""VBPR against its score and loss, one triple after the other."""

from typing import Any

import numpy as np
import pytest

CASES: dict[str, dict[str, Any]] = {
    "as MMRec": {},
    "another weight": {"reg_weight": 2.0},
    "as printed": {"fidelity": "paper", "reg_weight": 0.3},
    "no_content": {"use_content": False},
}


@pytest.mark.parametrize("case", CASES)
def test_scores_and_loss_are_the_equations(case: str, place: Any, opened: Any) -> None:
    one = opened(place, "VBPR", **CASES[case])
    options, weights = one.model.options, one.weights
    width = options.embedding_size
    g, x = one.table("item_nodes.weight"), one.table("user_nodes.weight")
    assert x.shape[1] == 2 * width and g.shape[1] == width
    f = np.concatenate([one.features[name] for name in ("text", "image") if name in one.features], axis=1)
    content = f @ weights["projection.weight"].T + weights["projection.bias"]
    content = content * options.use_content
    bias = np.zeros(len(g))
    if options.fidelity == "paper":
        bias = weights["item_bias"][1:] + f @ weights["content_bias"]

    def score(user: int, item: int) -> float:
        gamma, theta = x[user, :width], x[user, width:]
        return float(gamma @ g[item] + theta @ content[item] + bias[item])

    rows, triples = one.triples()
    one.model.eval()
    found = one.model.full_sort_predict(rows).view(len(rows), -1)[:, 1:].detach().numpy()
    expected = [[score(u, item) for item in range(len(g))] for u, _, _ in triples]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-4)
    ranking = np.mean([np.log(1 + np.exp(score(u, n) - score(u, p))) for u, p, n in triples])
    items = np.concatenate([g, content], axis=1)
    vectors = [x[triples[:, 0]], items[triples[:, 1]], items[triples[:, 2]]]
    if options.fidelity == "paper":
        penalty = sum((v**2).sum() for v in vectors) / (2 * len(triples))
    else:
        penalty = sum(np.sqrt((v**2).sum()) for v in vectors) / len(triples)
    one.model.train()
    loss = float(one.model.calculate_loss(rows))
    assert loss == pytest.approx(ranking + options.reg_weight * penalty, rel=1e-5)

"""The yes/no classifier: pieces, batches that change nothing, what it learns, what it keeps."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_llmgraph.lm.classifier import LONGEST, YesNo

WORDS = ["red apple", "green pear", "yellow banana", "blue plum", "old shoe", "wet sock"]
SPEC = "builtin:llama-mini"


@pytest.fixture(scope="module")
def model() -> YesNo:
    return YesNo(SPEC, WORDS, seed=3, piece=4)


def test_pieces_are_cut_and_joined(model: YesNo) -> None:
    alone = [model.ids([word]) for word in WORDS[:2]]
    assert model.ids(WORDS[:2]) == alone[0] + alone[1][1:]  # one begin-of-sequence token
    assert len(model.ids(["apple " * 50])) == 1 + 4
    assert model.ids([""]) == model.ids([])


def test_of_a_prompt_that_is_too_long_the_end_stays(model: YesNo) -> None:
    shown = ["red apple green pear"] * 200
    asked = [model.ids([*shown, "Candidate:", word, "Suits?"], kept=3) for word in WORDS]
    assert {len(prompt) for prompt in asked} == {LONGEST} and len(set(map(tuple, asked))) == len(WORDS)
    end = model.ids(["Candidate:", WORDS[0], "Suits?"])[1:]
    assert asked[0][-len(end) :] == end and asked[0][: -len(end)] == model.ids(shown)[: LONGEST - len(end)]
    short = [*WORDS[:2], "Candidate:", WORDS[3]]
    assert model.ids(short, kept=2) == model.ids(short)


def test_batches_and_padding_leave_logits_as_they_are(model: YesNo) -> None:
    torch.nn.init.normal_(model.head.weight)
    prompts = [model.ids(WORDS[:n]) for n in (1, 4, 2, 6, 3)]
    together = model.scores(prompts)
    alone = [float(model.scores([prompt])[0]) for prompt in prompts]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert len(set(np.round(together, 4))) == 5


def test_it_learns_and_comes_back_from_its_file(tmp_path: Path) -> None:
    model = YesNo(SPEC, WORDS, seed=1, piece=8)
    prompts = [model.ids(["Candidate:", word]) for word in WORDS] * 6
    labels = [int(n % 6 < 3) for n in range(36)]
    assert np.allclose(model.scores(prompts), 0)  # starts at "nobody knows"
    losses = model.fit(
        prompts, labels, epochs=6, batch=12, learning_rate=3e-3, weight_decay=0.01, warmup=0.1, seed=1
    )
    assert losses[-1] < 0.5 * losses[0]
    assert ((model.scores(prompts) > 0) == np.array(labels, dtype=bool)).all()
    model.save(tmp_path / "weights.safetensors")
    other = YesNo(SPEC, WORDS, seed=1, piece=8)
    other.restore(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(other.scores(prompts), model.scores(prompts))


def test_adapters_are_of_the_seed_alone() -> None:
    first, again, other = (YesNo(SPEC, WORDS, seed=seed, tuning="lora", rank=2) for seed in (1, 1, 2))
    drawn = [
        {name: weight for name, weight in model.named_parameters() if "lora_A" in name}
        for model in (first, again, other)
    ]
    assert drawn[0] and all(torch.equal(weight, drawn[1][name]) for name, weight in drawn[0].items())
    assert not all(torch.equal(weight, drawn[2][name]) for name, weight in drawn[0].items())


def test_lora_trains_and_keeps_adapters_and_head_alone(tmp_path: Path) -> None:
    model = YesNo(SPEC, WORDS, seed=1, tuning="lora", rank=2)
    frozen = {name: weight.clone() for name, weight in model.named_parameters() if not weight.requires_grad}
    prompts = [model.ids([word]) for word in WORDS]
    model.fit(prompts, [0, 1] * 3, epochs=2, batch=6, learning_rate=1e-2, weight_decay=0, warmup=0, seed=1)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert frozen and all(torch.equal(dict(model.named_parameters())[n], w) for n, w in frozen.items())
    assert all("lora_" in name or name.startswith("head.") for name in trained)
    model.save(tmp_path / "weights.safetensors")
    with pytest.raises(RuntimeError, match="holds other weights"):
        YesNo(SPEC, WORDS, seed=1).restore(tmp_path / "weights.safetensors")

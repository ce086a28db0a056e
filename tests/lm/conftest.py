"""Tiny backbones, and a decoder written with plain loops to judge the fast one by."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_llmgraph.lm.backbone import Backbone, open_backbone

TEXTS = [
    "Given the purchases of a user, name the next item.",
    "Purchases: soap, shampoo, a comb. Next: a hair dryer.",
    "Rouge à lèvres №5 — 口红",
]


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    """Folder of small real checkpoints; tests that need it are skipped where there is none."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "lm"
    folder = Path(os.environ.get("RECBOLE_LLMGRAPH_LM", beside))
    if not folder.is_dir():
        pytest.skip("no checkpoints; set RECBOLE_LLMGRAPH_LM to a folder with stories260K and others")
    return folder


@pytest.fixture
def llama() -> Backbone:
    """The smallest built-in decoder: 4 heads on 2 key/value heads."""
    return open_backbone("builtin:llama-mini", family="llama", texts=TEXTS)


@pytest.fixture(params=["builtin", "stories260K/hf", "stories3M-q80/hf"])
def any_llama(request: pytest.FixtureRequest) -> Backbone:
    """Built-in and real decoders; all of them share key/value heads between query heads."""
    if request.param == "builtin":
        return open_backbone("builtin:llama-mini", family="llama", texts=TEXTS)
    folder: Path = request.getfixturevalue("checkpoints")
    return open_backbone(f"path:{folder / request.param}", family="llama")


@pytest.fixture(scope="session")
def slow_decoder() -> Callable[..., np.ndarray]:
    return run_slowly


def run_slowly(model: torch.nn.Module, tokens: np.ndarray, keys: list, values: list) -> np.ndarray:
    """Final states [T, D] of one unpadded sequence, token by token, head by head, in float64.

    tokens [T, D]; keys and values: for each layer the prefix as attention sees it, [k, heads · d].
    """
    c = model.config
    heads, groups = c.num_attention_heads, c.num_attention_heads // c.num_key_value_heads
    size = model.layers[0].self_attn.head_dim
    base = c.rope_parameters["rope_theta"]

    def norm(x, layer):
        return x / np.sqrt(np.mean(x * x) + c.rms_norm_eps) * as_array(layer.weight)

    def rotate(x, position):
        out = np.empty_like(x)
        for j in range(size // 2):
            angle = position * base ** (-2.0 * j / size)
            a, b = x[j], x[j + size // 2]
            out[j] = a * math.cos(angle) - b * math.sin(angle)
            out[j + size // 2] = b * math.cos(angle) + a * math.sin(angle)
        return out

    def attend(layer, states, number):
        attention = layer.self_attn
        wq, wk, wv, wo = (as_array(getattr(attention, f"{n}_proj").weight) for n in "qkvo")
        k = len(keys[number])
        normed = [norm(x, layer.input_layernorm) for x in states]
        query, key, value = ([w @ x for x in normed] for w in (wq, wk, wv))
        result = []
        for t in range(len(states)):
            mixed = np.zeros(heads * size)
            for h in range(heads):
                own = slice(h * size, (h + 1) * size)
                shared = slice(h // groups * size, (h // groups + 1) * size)
                asked = rotate(query[t][own], k + t)
                seen = [(keys[number][i][shared], values[number][i][shared]) for i in range(k)]
                for s in range(t + 1):
                    seen.append((rotate(key[s][shared], k + s), value[s][shared]))
                weight = np.array([math.exp(asked @ one / math.sqrt(size)) for one, _ in seen])
                weight /= weight.sum()
                mixed[own] = sum(w * one for w, (_, one) in zip(weight, seen, strict=True))
            result.append(states[t] + wo @ mixed)
        return result

    def feed_forward(layer, x):
        n = norm(x, layer.post_attention_layernorm)
        gate, up, down = (as_array(getattr(layer.mlp, f"{p}_proj").weight) for p in ("gate", "up", "down"))
        g = gate @ n
        return x + down @ (g / (1 + np.exp(-g)) * (up @ n))

    states = list(tokens)
    for number, layer in enumerate(model.layers):
        states = [feed_forward(layer, x) for x in attend(layer, states, number)]
    return np.stack([norm(x, model.norm) for x in states])


def as_array(weight: torch.Tensor) -> np.ndarray:
    return weight.detach().double().numpy()

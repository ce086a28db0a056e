"""Language-model backbones: `hub:<id>[@revision]`, `path:<folder>` or `builtin:<name>`.

A `llama` backbone is the decoder without its text head; a `t5` backbone is encoder,
decoder and text head. Reports name it as `Backbone.name` with its parameter count.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from recbole_llmgraph.base.errors import UserError, unknown
from recbole_llmgraph.base.hashing import hash_data
from recbole_llmgraph.lm.builtin import BUILTIN, VOCABULARY, Family, build_model, build_tokenizer, builtin
from recbole_llmgraph.lm.loading import reading
from recbole_llmgraph.lm.sources import FolderSource, HubSource, folder_hash, read_source

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: transformers' `model_type`s whose layers a family's code fits.
MODEL_TYPES: dict[Family, tuple[str, ...]] = {"llama": ("llama", "mistral", "qwen2"), "t5": ("t5",)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass
class Backbone:
    """A language model and its tokenizer.

    Attributes:
        name: what reports print, e.g. `builtin:llama-mini`, `stories3M-q80/hf (random weights)`.
        model: transformers' decoder (`llama`) or `T5ForConditionalGeneration` (`t5`).
        tokenizer: never grown; users and items are rows, not tokens.
        family: `llama` or `t5`.
        width: size D of a hidden state.
        parameters: number of weights, shared ones counted once.
        pretrained: whether the weights were trained by others before.
        revision: what fixes weights and tokenizer: commit, or hash of files or recipe.
    """

    name: str
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    family: Family
    width: int
    parameters: int
    pretrained: bool
    revision: str


@dataclass(frozen=True)
class BackboneCard:
    """What `--backbone` accepts, for listings."""

    spec: str
    family: Family
    title: str


def available_backbones() -> list[BackboneCard]:
    """Every built-in backbone, then the published ones by their hub address."""
    cards = [BackboneCard(f"builtin:{card.name}", card.family, card.title) for card in BUILTIN.values()]
    return [
        *cards,
        BackboneCard("hub:meta-llama/Llama-2-7b-hf", "llama", "Llama 2, 7 billion (HeLLM; gated, ask Meta)"),
        BackboneCard("hub:google/flan-t5-base", "t5", "Flan-T5 base, 248 million (GAL-Rec)"),
        BackboneCard("hub:google/flan-t5-small", "t5", "Flan-T5 small, 77 million"),
    ]


def read_dtype(name: str) -> torch.dtype:
    """`fp32` or `bf16` as torch names it.

    Raises:
        UserError: for any other name; fp16 overflows in T5 (transformers issue #5651).
    """
    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES, "Known: fp32, bf16; never fp16, in which T5 overflows.")
    return DTYPES[name]


def open_backbone(
    spec: str,
    *,
    family: Family,
    texts: Sequence[str] | None = None,
    seed: int = 0,
    random_weights: bool = False,
    dtype: torch.dtype = torch.float32,
    vocabulary: int = VOCABULARY,
) -> Backbone:
    """Open a backbone on the CPU, all weights trainable; torch's global random state stays as it is.

    Args:
        spec: `hub:<id>[@revision]`, `path:<folder>` or `builtin:<name>`.
        family: what the calling model is written for.
        texts: what a built-in's tokenizer is learned from; the others bring their own.
        seed: draws the weights of built-ins and of `random_weights`.
        random_weights: the same architecture and tokenizer with fresh weights, as a control of pre-training.
        dtype: float32 or bfloat16.
        vocabulary: most tokens of a built-in's tokenizer; the others bring their own.

    Raises:
        UserError: for an unknown name, another family, or weights that are not to be had.
    """
    if dtype not in DTYPES.values():
        raise UserError(f"backbone '{spec}': dtype {dtype} is not supported; take float32 or bfloat16")
    with seeded(seed):
        if spec.startswith("builtin:"):
            opened = _open_builtin(spec, family, texts, seed, vocabulary)
        else:
            opened = _open_source(spec, family, seed, random_weights)
    torch.nn.Module.to(opened.model, dtype)
    opened.model.config.use_cache = False
    return opened


def text_head(backbone: Backbone) -> tuple[torch.Tensor, bool]:
    """The rows [V, D] that a T5 compares its decoder state with, and whether they are the input rows too.

    Flan-T5 has rows of its own; the two must not be told apart by `config.tie_word_embeddings`,
    which transformers 5 sets on every T5.
    """
    model: Any = backbone.model
    rows: torch.Tensor = model.lm_head.weight
    return rows, rows is model.shared.weight


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` inside, and go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _open_builtin(
    spec: str, family: Family, texts: Sequence[str] | None, seed: int, vocabulary: int
) -> Backbone:
    card = builtin(spec.partition(":")[2])
    _check_family(spec, card.family, family)
    if texts is None:
        raise ValueError(f"{spec} learns its tokenizer from `texts`; pass the dataset's text")
    tokenizer = build_tokenizer(texts, vocabulary)
    model = build_model(card, len(tokenizer))
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    revision = hash_data([card.settings, tokens, seed])
    return _backbone(spec, model, tokenizer, family, pretrained=False, revision=revision)


def _open_source(spec: str, family: Family, seed: int, random_weights: bool) -> Backbone:
    """Open `hub:` or `path:`."""
    from transformers import AutoConfig, AutoTokenizer

    source = read_source(spec, "builtin:<name>")
    at = _location(source)
    with reading(spec, "configuration or tokenizer"):
        config = AutoConfig.from_pretrained(**at)
        tokenizer = AutoTokenizer.from_pretrained(**at)
    _check_family(spec, config.model_type, family)
    revision = folder_hash(source.folder) if isinstance(source, FolderSource) else at["revision"]
    if random_weights:
        model = _fresh(config, family, untied=_own_head(source))
        name, revision = f"{source.label} (random weights)", f"{revision}+seed{seed}"
        return _backbone(name, model, tokenizer, family, pretrained=False, revision=revision)
    _check_weights(spec, source)
    model = _load(spec, at, family)
    return _backbone(source.label, model, tokenizer, family, pretrained=True, revision=revision)


def _location(source: HubSource | FolderSource) -> dict[str, Any]:
    """Arguments of transformers' `from_pretrained`."""
    if isinstance(source, HubSource):
        return {"pretrained_model_name_or_path": source.name, "revision": source.commit()}
    return {"pretrained_model_name_or_path": str(source.folder), "revision": None}


def _fresh(config: Any, family: Family, *, untied: bool) -> Any:
    """The configuration's model with new weights."""
    if family == "llama":
        from transformers import AutoModel

        return AutoModel.from_config(config, dtype=torch.float32)
    from transformers import T5ForConditionalGeneration

    seq2seq = T5ForConditionalGeneration(config)
    if untied:
        # transformers 5 ties every T5 that it builds; Flan-T5 compares with rows of its own.
        seq2seq.lm_head = torch.nn.Linear(config.d_model, config.vocab_size, bias=False)
        torch.nn.init.normal_(seq2seq.lm_head.weight, std=config.d_model**-0.5)
    return seq2seq


def _own_head(source: HubSource | FolderSource) -> bool:
    """Whether the file's own configuration unties the text head (transformers overrides what it reads)."""
    file = source.file("config.json")
    return json.loads(file.read_text(encoding="utf-8")).get("tie_word_embeddings") is False


def _check_weights(spec: str, source: HubSource | FolderSource) -> None:
    if isinstance(source, FolderSource) and not source.has_weights():
        raise UserError(
            f"{spec}: holds no weights (no *.safetensors or pytorch_model*.bin); "
            "add them, or ask for random weights (random_weights: true)"
        )


def _load(spec: str, at: dict[str, Any], family: Family) -> Any:
    """Read trained weights, in full precision, and refuse a checkpoint that lacks some."""
    from transformers import AutoModel, T5ForConditionalGeneration

    kind: Any = AutoModel if family == "llama" else T5ForConditionalGeneration
    with reading(spec, "weights"):
        model, report = kind.from_pretrained(**at, dtype=torch.float32, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"{spec}: its weights lack '{missing[0]}' and {len(missing) - 1} more that it needs")
    return model.train()


def _check_family(spec: str, found: str, family: Family) -> None:
    if found not in MODEL_TYPES[family]:
        allowed = ", ".join(MODEL_TYPES[family])
        known = ", ".join(f"builtin:{card.name}" for card in BUILTIN.values() if card.family == family)
        raise UserError(
            f"backbone '{spec}' is a {found}; this model needs one of: {allowed}; built in: {known}"
        )


def _backbone(
    name: str, model: Any, tokenizer: Any, family: Family, *, pretrained: bool, revision: str
) -> Backbone:
    width = int(model.config.hidden_size)
    # `parameters()` lists a shared tensor once.
    count = sum(weight.numel() for weight in model.parameters())
    return Backbone(name, model, tokenizer, family, width, count, pretrained, revision)

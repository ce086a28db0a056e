"""What CoLLM and LLaRA have in common beyond HeLLM: prompts that name items by their text.

An item of the history is its text, a slot with its mapped vector, or both. HeLLM's prompts hold slots alone.

Both papers name items by their titles. Here an item's text is what the suite knows of it, title first, cut to
`title_tokens`; where a dataset has no titles, brand and categories take their place.
"""

import json
from typing import Any, Literal

from pydantic import Field, PositiveInt
from torch import Tensor

from recbole_llmgraph.host.dataset import item_tokens
from recbole_llmgraph.lm.slots import SlotPrompt
from recbole_llmgraph.lm.titles import Filling, Titles
from recbole_llmgraph.model.llama import LlamaRecommender, LlamaSettings
from recbole_llmgraph.model.tables import provided_file

#: What stands for an item in a prompt.
Shown = Literal["text", "hybrid", "embedding"]


class TitledSettings(LlamaSettings):
    """Settings of models whose prompts hold item texts."""

    max_history: PositiveInt = 10
    title_tokens: PositiveInt = 32
    """Most tokens of an item's text."""
    separator: str = ","
    """Text behind every item's text."""
    vocabulary: int = Field(default=1024, ge=512)
    """Most tokens of a built-in backbone's tokenizer."""
    item_titles: str = ""
    """File of item texts by token; the suite fills it."""


class TitledLlama(LlamaRecommender):
    """Llama over prompts of item texts and item vectors; shapes as in `LlamaRecommender`."""

    options: TitledSettings

    def _open_titled(self, config: Any, dataset: Any) -> Any:
        """The backbone's tokenizer; backbone and titles are the model's from then on."""
        options = self.options
        file = provided_file(options.item_titles, "item_titles", type(self).__name__)
        texts: dict[str, str] = json.loads(file.read_text("utf-8"))
        lines = [texts[token] for token in sorted(texts)]
        tokenizer = self._open_backbone(int(config["seed"]), lines, options.vocabulary).tokenizer
        named = [texts.get(token, "") for token in item_tokens(dataset)]
        self.titles = Titles(named, tokenizer, options.title_tokens, options.separator)
        return tokenizer

    def _prompt(self, tokenizer: Any, *pieces: str) -> SlotPrompt:
        return SlotPrompt(" ".join(pieces), tokenizer, bos=self.options.bos)

    def _list(self, items: Tensor, lengths: Tensor, shown: Shown) -> Filling:
        """The history as it fills a slot. Items `[B, T]`, lengths `[B]`"""
        if shown == "text":
            return self._titled(items, lengths, None)
        distinct, places = items.unique(return_inverse=True)
        rows = self.item_projection(self.item_vectors[distinct])  # [R, D]
        if shown == "embedding":
            return Filling(rows, places, lengths)
        return self._titled(items, lengths, (rows, places))

    def _titled(self, items: Tensor, lengths: Tensor, slots: tuple[Tensor, Tensor] | None) -> Filling:
        filling: Filling = self.titles(self.backbone.embed_tokens, items, lengths, slots)
        return filling

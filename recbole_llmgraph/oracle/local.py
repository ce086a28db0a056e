"""A causal language model in this process: batches of similar length, greedy decoding."""

import json
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from recbole_llmgraph.lm.loading import reading
from recbole_llmgraph.lm.sources import HubSource, folder_hash, read_source
from recbole_llmgraph.oracle.backend import Call, Reply, Result, Results, Silence, Take
from recbole_llmgraph.oracle.cost import Price, Usage
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.template import Message, Template

if TYPE_CHECKING:
    pass

#: Batches' worth of calls that are sorted by length together.
WINDOW = 4
#: Ways to write each answer of a pointwise question.
YES, NO = ("yes", "Yes", " yes", " Yes", "YES"), ("no", "No", " no", " No", "NO")


class LocalBackend:
    """A causal language model of transformers; weights are read when the first question needs them.

    Pointwise questions are answered from the probabilities of `yes` and `no` as the next token.

    Args:
        address: `path:<folder>` or `hub:<id>[@revision]`.
        options: prompts a batch.

    Raises:
        UserError: when the model is not to be had.
    """

    is_llm = True
    keeps = True
    parallel = False
    price: Price | None = None

    def __init__(self, address: str, options: OracleOptions) -> None:
        import torch

        source = read_source(address)
        self._commit = source.commit() if isinstance(source, HubSource) else None
        self._where = source.name if isinstance(source, HubSource) else str(source.folder)
        fixed = source.commit() if isinstance(source, HubSource) else folder_hash(source.folder)
        self._batch = options.batch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        self.label = f"hf {source.label}"
        self.identity = f"hf:{source.label}:{fixed}"
        self.decoding: Mapping[str, Any] = {"greedy": True, "dtype": str(self._dtype).removeprefix("torch.")}

    def most_tokens(self, form: Template) -> int:
        """Tokens that a reply may have."""
        return form.max_tokens

    def work(self, take: Take) -> Results:
        """Answer batches of similar length, the longest of the calls at hand first; repairs are long."""
        pool: list[tuple[Call, list[int]]] = []
        while True:
            while len(pool) < WINDOW * self._batch and (call := take()) is not None:
                tokens = self._tokens(call.messages)
                if (room := self._context - self.most_tokens(call.template)) < len(tokens):
                    reason = f"its prompt has {len(tokens)} tokens, the model has room for {room}"
                    yield [(call, Silence(reason))]
                else:
                    pool.append((call, tokens))
            if not pool:
                return
            pool.sort(key=lambda pair: (pair[0].template.name, -len(pair[1])))
            task = pool[0][0].template.name
            batch = [pair for pair in pool[: self._batch] if pair[0].template.name == task]
            del pool[: len(batch)]
            yield self._answer(batch)

    def _answer(self, batch: Sequence[tuple[Call, list[int]]]) -> list[Result]:
        """One batch of one task."""
        started = time.monotonic()
        prompts = [tokens for _, tokens in batch]
        form = batch[0][0].template
        if form.task == "rerank_point" and self._words is not None:
            texts, lengths = self._yes_or_no(prompts), [1] * len(batch)
        else:
            texts, lengths = self._generate(prompts, form.max_tokens)
        seconds = (time.monotonic() - started) / len(batch)
        return [
            (call, Reply(text, Usage(1, tokens_in=len(tokens), tokens_out=length, seconds=seconds)))
            for (call, tokens), text, length in zip(batch, texts, lengths, strict=True)
        ]

    def _generate(self, prompts: list[list[int]], most: int) -> tuple[list[str], list[int]]:
        """Greedy continuations, and their lengths in tokens."""
        result = self._run(prompts, most).sequences[:, max(map(len, prompts)) :]  # [B, ≤ most]
        ends = self._ends()
        rows = [_until(row, ends) for row in result.tolist()]
        return self._tokenizer.batch_decode(rows, skip_special_tokens=True), [len(row) for row in rows]

    def _yes_or_no(self, prompts: list[list[int]]) -> list[str]:
        """`{"answer": …, "p_yes": …, "mass": …}`; mass is what all ways of yes and no have together."""
        chances = self._run(prompts, 1).logits[0].float().softmax(dim=-1)  # [B, V]
        yes, no = (chances[:, words].sum(dim=1) for words in self._words or ((), ()))  # [B] each
        found = []
        for a, b in zip(yes.tolist(), no.tolist(), strict=True):
            share = a / (a + b) if a + b else 0.5
            said = {"answer": "yes" if share >= 0.5 else "no", "p_yes": round(share, 6)}
            found.append(json.dumps({**said, "mass": round(min(a + b, 1.0), 6)}))
        return found

    def _run(self, prompts: list[list[int]], most: int) -> Any:
        """Greedy generation over left-padded prompts."""
        import torch

        width = max(map(len, prompts))
        rows = torch.full((len(prompts), width), self._padding)
        mask = torch.zeros_like(rows)
        for row, tokens in enumerate(prompts):
            rows[row, width - len(tokens) :] = torch.tensor(tokens)
            mask[row, width - len(tokens) :] = 1
        with torch.no_grad():
            return self._model.generate(
                input_ids=rows.to(self._device), attention_mask=mask.to(self._device), max_new_tokens=most,
                do_sample=False, temperature=None, top_p=None, top_k=None, pad_token_id=self._padding,
                output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip

    def _tokens(self, messages: Sequence[Message]) -> list[int]:
        """The conversation as the model's own chat template writes it, or as plain paragraphs."""
        tokenizer = self._tokenizer
        if tokenizer.chat_template is None:
            plain = "\n\n".join(message.text for message in messages)
            return list(tokenizer(f"{plain}\n\nAnswer:")["input_ids"])
        turns = [{"role": message.role, "content": message.text} for message in messages]
        try:
            text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        except TemplateError:  # Gemma's and others know no system message
            turns[1]["content"] = f"{turns[0]['content']}\n\n{turns[1]['content']}"
            text = tokenizer.apply_chat_template(turns[1:], add_generation_prompt=True, tokenize=False)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with reading(self._where, "tokenizer"):
            return AutoTokenizer.from_pretrained(self._where, revision=self._commit)

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForCausalLM

        with reading(self._where, "causal language model"):
            model = AutoModelForCausalLM.from_pretrained(
                self._where, revision=self._commit, dtype=self._dtype
            )
        return model.eval().to(self._device)

    @property
    def _context(self) -> int:
        """Tokens of prompt and answer together."""
        return int(getattr(self._model.config, "max_position_embeddings", self._tokenizer.model_max_length))

    @property
    def _padding(self) -> int:
        """Any token; padding is masked."""
        known = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, 0)
        return int(next(token for token in known if token is not None))

    def _ends(self) -> set[int]:
        """Tokens that end an answer."""
        ends = self._model.generation_config.eos_token_id
        return {*([ends] if isinstance(ends, int) else ends or [])}

    @cached_property
    def _words(self) -> tuple[list[int], list[int]] | None:
        """Tokens of yes and of no; None when the tokenizer has none for one of them."""

        def tokens(words: Sequence[str]) -> set[int]:
            split = {word: self._tokenizer(word, add_special_tokens=False)["input_ids"] for word in words}
            whole = ((word, row[0]) for word, row in split.items() if len(row) == 1)
            # read back, since an unknown word is one token too
            return {token for word, token in whole if self._tokenizer.decode([token]).strip() == word.strip()}

        yes, no = tokens(YES), tokens(NO)
        return (sorted(yes), sorted(no)) if yes and no else None


def _until(row: list[int], ends: set[int]) -> list[int]:
    """A row up to its first end."""
    stop = next((at for at, token in enumerate(row) if token in ends), len(row))
    return row[:stop]

"""What P5, SID, IID and CID share: a T5 that reads items as codes and answers with one.

    prompt   codes of the history's items, oldest first, + w_k on all pieces of the k-th item
    P(i | h) = prod_t softmax(E s_t)[c_t]        c the code of i, s_t the decoder's state after c_1 .. c_t-1
    L        = mean over rows of -1/|c| sum_t log softmax(E s_t)[c_t]

E are the rows of the code's pieces, over sqrt(D), which are the pieces' input rows too.

Scores are log P(i | h) of the items that beams reach, and one floor below all of them for the others. A
user's beams are `beams` (at least the longest list that is judged) and one for each item that she met in
training: as many as that mask takes out. So both masks read full lists from the same scores.

Deviations, the same for all four:

* One of P5's five families of prompts, that of the next item; neither rating, explanation, review nor
  direct recommendation is trained. A prompt names no user.
* The tokenizer does not grow: pieces are rows of a table of their own, and the softmax runs over pieces
  alone. A backbone that can read gives each piece its start, where the piece is text.
* No code begins another, so answers need no end token (P5's has one); scores are sums of log-probabilities,
  not means over their number. `item_`, commas and the dataset's name before a code are left out.
* Whole-word rows count the items of a history; words of text share one.
* `wording: marks` (presets with built-in backbones) writes one mark in place of the question.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.dataset import training_pairs
from recbole_llmgraph.host.models import InputType, SequentialRecommender, config_values, read_settings
from recbole_llmgraph.lm.backbone import open_backbone
from recbole_llmgraph.lm.packed import Packed, pack
from recbole_llmgraph.lm.quick import quicken
from recbole_llmgraph.lm.t5 import encode
from recbole_llmgraph.lm.t5_decoder import Cache, Memory, decode, remember
from recbole_llmgraph.lm.trie import Trie
from recbole_llmgraph.train.settings import SequenceSettings

#: Text before and after the history.
WORDINGS = {
    "sentences": ("A user has bought these items, one after the other:", "What is the next item?"),
    "marks": ("", "?"),
}
#: Score of items that no beam reached.
FLOOR = -1e6
#: Log-probabilities of beams held at once: 32 MB.
AHEAD_AT_ONCE = 8_000_000


class IndexedSettings(SequenceSettings):
    """Settings of all four; defaults are those of OpenP5, which trains all of them alike."""

    epochs: PositiveInt = 20
    learning_rate: PositiveFloat = 1e-3
    train_batch_size: PositiveInt = 64
    learner: Literal["adam", "adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 0.01
    schedule: Literal["constant", "exponential", "linear", "cosine"] = "linear"
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    clip_grad_norm: NonNegativeFloat = 1.0
    stopping_step: NonNegativeInt = 5
    max_history: PositiveInt = 20
    backbone: str = "hub:google-t5/t5-small"
    random_weights: bool = False
    """Open `backbone`'s architecture with fresh weights: the control for pre-training."""
    wording: Literal["sentences", "marks"] = "sentences"
    whole_word: bool = True
    """Add one row to all pieces of an item, by its place in the history (P5's whole-word embedding)."""


class BeamSettings(IndexedSettings):
    """Settings of those whose codes have several pieces."""

    beams: PositiveInt = 20
    """Beams of a user beside one for each item that she met in training."""


class IndexedT5(SequentialRecommender):
    """Sequence to sequence over codes.

    Shapes: B rows, T items of the longest history, N items with padding, C pieces of the longest code,
    V pieces there are, D width of the backbone, W beams.
    """

    input_type = InputType.POINTWISE
    settings: ClassVar[type[IndexedSettings]] = IndexedSettings
    batching: ClassVar[str] = "by_length"
    codes: Tensor
    text: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.options = read_settings(self.settings, config)
        before, after = WORDINGS[self.options.wording]
        opened = open_backbone(
            self.options.backbone,
            family="t5",
            texts=[before, after],
            seed=int(config["seed"]),
            random_weights=self.options.random_weights,
        )
        quicken(opened.model)
        self.backbone_name, self.width = opened.name, opened.width
        model: Any = opened.model
        self.words, self.encoder, self.decoder = model.shared, model.encoder, model.decoder
        parts = [opened.tokenizer(part, add_special_tokens=False).input_ids for part in (before, after)]
        self.before = len(parts[0])
        text = torch.tensor([*parts[0], *parts[1], opened.tokenizer.eos_token_id], dtype=torch.long)
        self.register_buffer("text", text, persistent=False)
        codes, vocabulary = self.make_codes(dataset)
        self.register_buffer("codes", torch.from_numpy(codes), persistent=False)
        self.pieces = nn.Parameter(self._first_rows(opened, vocabulary))
        if self.options.whole_word:
            self.places = nn.Embedding(1 + self.options.max_history, self.width)

    @classmethod
    def recbole_config(cls, settings: IndexedSettings) -> dict[str, Any]:
        """Config keys; cross entropy wants no negatives."""
        return {**config_values(settings), "train_neg_sample_args": None}

    @abstractmethod
    def make_codes(self, dataset: Any) -> tuple[np.ndarray, int]:
        """Codes of all items from the training part, pieces from 1, 0 on the right `[N, C]`; and V."""

    def texts_of_pieces(self) -> list[str] | None:
        """What pieces say, where they are text. `[V]`"""
        return None

    def _first_rows(self, opened: Any, vocabulary: int) -> Tensor:
        """Rows of pieces before training, of the size of text rows. `[V, D]`"""
        text: Tensor = opened.model.shared.weight.detach()
        says = self.texts_of_pieces()
        if opened.pretrained and says is not None:
            tokens = [opened.tokenizer(word, add_special_tokens=False).input_ids for word in says]
            return torch.stack([text[ids].mean(0) for ids in tokens])
        return torch.randn(vocabulary, self.width) * text.float().square().mean().sqrt()

    # -- forward -----------------------------------------------------------------------

    def _prompts(self, history: Tensor) -> Packed:
        """Prompts; a token's number is its row of the table plus the table's length times its place.

        Args:
            history: items, oldest first, 0 on the right. `[B, T]`
        """
        text, count = len(self.text), 1 + len(self.text) + len(self.pieces)
        written = self.codes[history]  # [B, T, C]
        place = torch.arange(1, history.shape[1] + 1, device=history.device)[:, None]
        numbers = torch.where(written > 0, written + text + place * count, 0).flatten(1)
        words = torch.arange(1, text + 1, device=history.device).expand(len(history), -1)
        return pack([torch.cat([words[:, : self.before], numbers, words[:, self.before :]], dim=1)])

    def _read(self, history: Tensor) -> tuple[Tensor, Packed]:
        """States of the encoder, prompts in a line. `[B, T]` to `[tokens, D]`"""
        packed = self._prompts(history)
        blank = self.pieces.new_zeros(1, self.width)
        table = torch.cat([blank, self.words(self.text), self.pieces])
        tokens = F.embedding(packed.rows % len(table), table)
        if self.options.whole_word:
            tokens = tokens + self.places(packed.rows // len(table))
        return encode(self.encoder, tokens, packed), packed

    def _start(self) -> Tensor:
        """Input row of the decoder before its first piece. `[D]`"""
        row: Tensor = self.words.weight[self.decoder.config.decoder_start_token_id or 0]
        return row

    def _rows(self) -> Tensor:
        """What the decoder's state is compared with. `[V, D]`"""
        rows: Tensor = self.pieces * self.width**-0.5
        return rows

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Mean over rows of the mean over pieces."""
        states, packed = self._read(interaction[self.ITEM_SEQ])
        return self._answer_loss(states, packed, interaction[self.POS_ITEM_ID])

    def _answer_loss(self, states: Tensor, packed: Packed, targets: Tensor) -> Tensor:
        """The loss of the targets' codes after these prompts."""
        answer = self.codes[targets]  # [B, C]
        answer = answer[:, : int((answer > 0).sum(1).max())]
        told = F.embedding((answer[:, :-1] - 1).clamp_min(0), self.pieces)
        begin = self._start().expand(len(answer), 1, -1)
        inputs = torch.cat([begin, told], dim=1)
        found = decode(self.decoder, inputs, remember(self.decoder, states, packed))
        logits = found @ self._rows().T
        losses = F.cross_entropy(
            logits.flatten(0, 1), answer.flatten() - 1, reduction="none", ignore_index=-1
        )
        count = (answer > 0).sum(1)
        return (losses.view_as(answer).sum(1) / count).mean()

    # -- scoring -----------------------------------------------------------------------

    @abstractmethod
    def forward(self, interaction: Any) -> Tensor:
        """Scores of all items, padding at -inf. `[B, N]`"""

    def predict(self, interaction: Any) -> Tensor:
        """Score of each row's item. `[B]`"""
        found: Tensor = self.forward(interaction).gather(1, interaction[self.ITEM_ID].unsqueeze(1))
        return found.squeeze(1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items for each row. `[B * N]`"""
        return self.forward(interaction).view(-1)

    @property
    def notes(self) -> list[str]:
        """What a reader of this model's row must know."""
        found = [
            f"backbone {self.backbone_name}",
            f"codes of at most {self.codes.shape[1]} of {len(self.pieces):,} pieces",
        ]
        if self.options.rows_per_epoch:
            found.append(f"{self.options.rows_per_epoch:,} pairs an epoch")
        return found


class BeamT5(IndexedT5):
    """Codes of several pieces: the best are found by beams in the trie of all codes."""

    settings: ClassVar[type[IndexedSettings]] = BeamSettings
    options: BeamSettings
    met: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        self.beams = self.options.beams
        if self.beams < (longest := max(config["topk"])):
            raise UserError(
                f"{type(self).__name__}.beams={self.beams}: lists of {longest} items are judged; "
                f"set beams to {longest} or more"
            )
        pairs = np.unique(np.stack(training_pairs(dataset)), axis=1)
        met = np.bincount(pairs[0], minlength=int(dataset.num(self.USER_ID)))
        self.register_buffer("met", torch.from_numpy(met), persistent=False)
        self.trie = Trie(self.codes, len(self.pieces))

    def forward(self, interaction: Any) -> Tensor:
        """Scores of all items, `FLOOR` where no beam came, padding at -inf. `[B, N]`"""
        users, history = interaction[self.USER_ID], interaction[self.ITEM_SEQ]
        widths = (self.beams + self.met[users]).clamp_max(self.n_items - 1)
        scores = torch.full((len(users), self.n_items), FLOOR, device=users.device)
        order = widths.argsort(stable=True)
        most = max(1, AHEAD_AT_ONCE // (int(widths.max()) * len(self.pieces)))
        for rows in order.split(most):
            leaves, found = self._search(history[rows], widths[rows])
            scores[rows.unsqueeze(1), leaves] = found
        scores[:, 0] = -torch.inf
        return scores

    def _search(self, history: Tensor, widths: Tensor) -> Any:
        """Items and their log-probabilities, best first, 0 beyond a row's beams. `[S, W]` each"""
        states, packed = self._read(history)
        memory: Memory = remember(self.decoder, states, packed)
        cache, rows, start = Cache(), self._rows().T, self._start()

        def step(pieces: Tensor, parents: Tensor) -> Tensor:
            cache.follow(parents)
            told = F.embedding((pieces - 1).clamp_min(0), self.pieces)
            inputs = torch.where((pieces > 0).unsqueeze(2), told, start)
            return torch.log_softmax(decode(self.decoder, inputs, memory, cache) @ rows, dim=2)

        return self.trie.search(widths, step)

    @property
    def notes(self) -> list[str]:
        """What a reader of this model's row must know."""
        return [*super().notes, f"{self.beams} beams and one for each item met in training"]

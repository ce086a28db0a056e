"""P5, SID, IID and CID against their equations, one row and one item after the other."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.model.baseline.indexed import FLOOR
from recbole_llmgraph.suite.run import make_model

MODELS = ("P5", "SID", "IID", "CID")
BEAMED = ("P5", "SID", "CID")
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def open_model(workshop: Any, name: str, **changes: Any) -> tuple[Any, Any, Any]:
    """An untrained model in which every weight matters, with text on both sides of the history."""
    cell = workshop.provided(workshop.cell(name, **{"wording": "sentences", **changes}))
    split = workshop.split(cell)
    model = make_model(cell, split).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if "layer_norm" in weight_name:
                weight.uniform_(0.5, 1.5)
            if "relative_attention_bias" in weight_name:
                weight.normal_()
    return cell, split, model


class Slow:
    """The equations over transformers' own stacks, one row at a time."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.codes = [[c for c in code if c] for code in model.codes.tolist()]

    def prompt(self, history: list[int]) -> Tensor:
        """Input rows. `[L, D]`"""
        model = self.model
        word = model.places.weight if model.options.whole_word else torch.zeros(99, model.width)
        text = [model.words.weight[token] + word[0] for token in model.text.tolist()]
        items = [
            model.pieces[c - 1] + word[place]
            for place, item in enumerate(history, 1)
            for c in self.codes[item]
        ]
        return torch.stack([*text[: model.before], *items, *text[model.before :]])

    def log_probability(self, states: Tensor, item: int) -> Tensor:
        """log P(i | h), a piece at a time."""
        model, written = self.model, [self.model._start()]
        total = torch.zeros(())
        for piece in self.codes[item]:
            found = model.decoder(
                inputs_embeds=torch.stack(written)[None], encoder_hidden_states=states
            ).last_hidden_state
            logits = model.pieces @ found[0, -1] / model.width**0.5
            total = total + torch.log_softmax(logits, 0)[piece - 1]
            written.append(model.pieces[piece - 1])
        return total

    def scores(self, history: list[int], items: list[int]) -> Tensor:
        states = self.model.encoder(inputs_embeds=self.prompt(history)[None]).last_hidden_state
        return torch.stack([self.log_probability(states, item) for item in items])


def histories_of(interaction: Any) -> list[list[int]]:
    return [[item for item in row if item] for row in interaction["item_id_list"].tolist()]


@pytest.mark.parametrize(("name", "changes"), [(n, {}) for n in MODELS] + [("SID", {"digits": 1})])
def test_the_loss_is_the_mean_over_rows_of_the_mean_over_pieces(
    name: str, changes: dict[str, Any], workshop: Any
) -> None:
    _, split, model = open_model(workshop, name, **changes)
    rows = split.train.collate_fn(np.arange(0, 200, 29))
    slow = Slow(model)
    losses = []
    for history, target in zip(histories_of(rows), rows["item_id"].tolist(), strict=True):
        losses.append(-slow.scores(history, [target])[0] / len(slow.codes[target]))
    with torch.no_grad():
        found = model.calculate_loss(rows)
    torch.testing.assert_close(found, torch.stack(losses).mean().detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_scores_are_the_equation(name: str, workshop: Any) -> None:
    """IID up to a constant a row, which ranks alike."""
    _, split, model = open_model(workshop, name, **({} if name == "IID" else {"beams": 48}))
    rows = split.test.collate_fn(np.arange(0, 70, 23))[0]
    found = model.full_sort_predict(rows).view(len(rows), -1)
    assert (found[:, 0] == -torch.inf).all()
    items, slow = [1, 7, 20, 33, model.n_items - 1], Slow(model)
    for row, history in enumerate(histories_of(rows)):
        mine = torch.log_softmax(found[row, 1:], 0) if name == "IID" else found[row, 1:]
        torch.testing.assert_close(mine[[i - 1 for i in items]], slow.scores(history, items), **CLOSE)


class Everything:
    """A model as the judge sees it, with the score of every item."""

    device = "cpu"

    def __init__(self, model: Any) -> None:
        self.model = model

    def eval(self) -> None:
        self.model.eval()

    def full_sort_predict(self, interaction: Any) -> Tensor:
        model, history = self.model, interaction["item_id_list"]
        states, packed = model._read(history)
        scores = torch.full((len(history), model.n_items), -torch.inf)
        for item in range(1, model.n_items):
            # the mean over one row is that row's own
            for place, loss in enumerate(self._losses(states, packed, item, len(history))):
                scores[place, item] = -loss
        return scores.view(-1)

    def _losses(self, states: Tensor, packed: Any, item: int, count: int) -> Tensor:
        from recbole_llmgraph.lm.t5_decoder import decode, remember

        model = self.model
        code = model.codes[item][model.codes[item] > 0]
        begin = torch.cat([model._start()[None], model.pieces[code[:-1] - 1]]).expand(count, -1, -1)
        told = torch.log_softmax(
            decode(model.decoder, begin, remember(model.decoder, states, packed)) @ model._rows().T, 2
        )
        return -told[:, torch.arange(len(code)), code - 1].sum(1)


@pytest.mark.parametrize("name", BEAMED)
def test_metrics_from_beams_are_those_of_scoring_every_item(name: str, workshop: Any) -> None:
    trained = workshop.reference(name)
    every = trained.judge(Everything(trained.model), "test")
    usual = trained.judge(trained.model, "test")
    beams, trained.model.beams = trained.model.beams, trained.split.n_items
    try:
        wide = trained.judge(trained.model, "test")
    finally:
        trained.model.beams = beams
    assert wide.metrics == every.metrics and wide.per_user.equals(every.per_user)
    for metric in ("recall@5", "ndcg@5", "recall@10", "ndcg@10"):
        assert usual.metrics["train"][metric] == pytest.approx(every.metrics["train"][metric], abs=0.03)


@pytest.mark.parametrize("name", BEAMED)
def test_every_list_is_full_of_what_beams_found(name: str, workshop: Any) -> None:
    """Whatever the mask takes out, as many items as are judged remain above the floor."""
    trained = workshop.reference(name)
    scores = trained.scores()
    loader = trained.split.test
    users = loader.collate_fn(np.arange(loader.sample_size))[0]["user_id"]
    found = scores > FLOOR
    met = (trained.split.training_matrix[users.numpy()].toarray() > 0).sum(1)
    assert found.sum(1).tolist() == (20 + met).tolist()  # its own beams, whatever the batch's others have
    masked = found & ~torch.from_numpy(trained.split.training_matrix[users.numpy()].toarray() > 0)
    assert int(masked.sum(1).min()) >= 20
    assert float(scores[found].min()) > FLOOR and not torch.isnan(scores).any()


@torch.no_grad()
def test_scores_depend_on_no_other_row(workshop: Any) -> None:
    trained = workshop.reference("CID")
    rows = trained.split.test.collate_fn(np.arange(30))[0]
    together = trained.model.eval().full_sort_predict(rows).view(30, -1)
    for row in range(0, 30, 7):
        alone = trained.model.full_sort_predict(trained.split.test.collate_fn(np.array([row]))[0])
        torch.testing.assert_close(alone, together[row], rtol=1e-4, atol=1e-4)


def test_beams_below_the_longest_list_are_refused(workshop: Any) -> None:
    with pytest.raises(
        UserError, match=r"SID\.beams=19: lists of 20 items are judged; set beams to 20 or more"
    ):
        open_model(workshop, "SID", beams=19)


def test_pieces_begin_as_what_they_say(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone that can read knows digits; one that cannot, and clusters, begin at the size of its text."""
    from recbole_llmgraph.model.baseline import indexed

    opened: list[Any] = []

    def trained_before(*args: Any, **more: Any) -> Any:
        opened.append(indexed_open(*args, **more))
        opened[-1].pretrained = True
        return opened[-1]

    indexed_open = indexed.open_backbone
    monkeypatch.setattr(indexed, "open_backbone", trained_before)
    cell = workshop.cell("SID")
    model = make_model(cell, workshop.split(cell))
    ids = opened[-1].tokenizer("07", add_special_tokens=False).input_ids
    torch.testing.assert_close(model.pieces[7], model.words.weight[ids].mean(0))
    cell = workshop.cell("CID")
    pieces = make_model(cell, workshop.split(cell)).pieces
    assert float(pieces.square().mean().sqrt()) == pytest.approx(1.0, rel=0.2)

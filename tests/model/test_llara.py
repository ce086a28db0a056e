"""LLaRA: its prompts and projection by hand, its curriculum draw by draw, what its switches leave."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.model.baseline.llara import LLaRA, ablations
from recbole_llmgraph.suite.run import make_model

CHECKPOINTS = Path(__file__).resolve().parents[3] / "shared" / "lm"
HISTORIES = [[3, 9, 4], [17], [5, 5, 30, 2, 48]]
CASES: dict[str, dict[str, Any]] = {
    "preset": {},
    "paper": {
        "head": "trainable",
        "standardise": False,
        "tuning": "lora",
        "separator": ",",
        "title_tokens": 32,
    },
    "text alone": {"prompts": "text"},
    "vectors alone": {"prompts": "embedding"},
    "text alone, tied head": {"prompts": "text", "head": "tied"},
    "tied head": {"head": "tied"},
}


def expected(known: Any, history: list[int], shown: str) -> torch.Tensor:
    """Scores from the paper's prompt: text, each item's title and its vector, text."""
    o = known.settings
    items = known.vectors(o.sequence_embedding, known.split.item_tokens())
    rows = known.words(o.instruction)
    for item in history:
        rows += known.title(item) if shown != "embedding" else []
        rows += [known.mapped(items[item], gelu=True)] if shown != "text" else []
    return known.logits(rows + known.words(o.response), items)


@pytest.mark.parametrize("case", CASES)
def test_scores_are_the_paper_s_prompt(case: str, workshop: Any, prompted: Any) -> None:
    known = prompted(workshop, "LLaRA", **CASES[case])
    shown = known.settings.prompts
    known.check(known.batch(HISTORIES), [expected(known, history, shown) for history in HISTORIES])


def test_scores_are_the_paper_s_prompt_on_a_trained_backbone(workshop: Any, prompted: Any) -> None:
    path = CHECKPOINTS / "stories260K" / "hf"
    if not (path / "config.json").is_file():
        pytest.skip("no stories260K/hf; put small trained Llamas beside the checkout, in shared/lm")
    known = prompted(workshop, "LLaRA", backbone=f"path:{path}", tuning="auto")
    adapted = {name.split(".")[4] for name, _ in known.model.named_parameters() if "lora_" in name}
    assert adapted == set(LLaRA.lora_targets) and len(adapted) == 7
    known.check(known.batch(HISTORIES), [expected(known, h, "hybrid") for h in HISTORIES], rtol=1e-3)


def model_of(workshop: Any, **changes: Any) -> tuple[Any, Any, Any]:
    cell = workshop.provided(workshop.cell("LLaRA", **changes))
    split = workshop.split(cell)
    return cell, split, make_model(cell, split)


def test_a_batch_in_training_shows_vectors_when_its_draw_is_below_p(workshop: Any, prompted: Any) -> None:
    """p rises from 0 by one part in (epochs x batches) a batch; the loss is that of the prompts shown."""
    known = prompted(workshop, "LLaRA", epochs=2)
    model, rows = known.model.train(), len(known.split.train._dataset)
    batches = math.ceil(rows / known.settings.train_batch_size)
    batch = known.batch(HISTORIES, item_id=[7, 1, 48])
    loss = {}
    for shown in ("text", "hybrid"):
        scores = torch.stack([expected(known, history, shown) for history in HISTORIES])
        loss[shown] = -float(scores.log_softmax(1)[torch.arange(3), torch.tensor([6, 0, 47])].mean())
    assert abs(loss["text"] - loss["hybrid"]) > 0.01
    found: list[str] = []
    for epoch in (0, 1):
        model.start_epoch(epoch)
        for number in range(batches):
            p = (epoch * batches + number) / (2 * batches)
            assert model.chance() == pytest.approx(p, abs=1e-12)
            torch.manual_seed(1000 * epoch + number)
            shown = "hybrid" if float(torch.rand(())) < p else "text"
            torch.manual_seed(1000 * epoch + number)
            with torch.no_grad():
                assert float(model.calculate_loss(batch)) == pytest.approx(loss[shown], rel=1e-4)
            found.append(shown)
        told = found[-batches:].count("hybrid") / batches
        assert model.epoch_log() == {"with_vectors": told}
    assert found[0] == "text" and found[:batches].count("hybrid") < found[batches:].count("hybrid")
    assert model.chance() == 1.0  # a trainer that knows no epochs goes on counting
    model.calculate_loss(batch)
    assert model.chance() == 1.0


def test_the_curriculum_counts_the_batches_that_there_are(workshop: Any) -> None:
    _, split, model = model_of(workshop, rows_per_epoch=100, train_batch_size=32, epochs=3)
    assert model.batches == 4
    model.start_epoch(2)
    assert model.chance() == pytest.approx(2 / 3)
    assert model_of(workshop, rows_per_epoch=10**6)[2].batches == math.ceil(len(split.train._dataset) / 32)


@pytest.mark.parametrize("changes", [{"curriculum": "none"}, {"prompts": "text"}, {"prompts": "embedding"}])
def test_without_a_curriculum_no_number_is_drawn(changes: dict[str, Any], workshop: Any) -> None:
    _, split, model = model_of(workshop, **changes)
    rows, before = split.train.collate_fn(list(range(8))), torch.get_rng_state()
    model.train().start_epoch(0)
    model.calculate_loss(rows)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.epoch_log()["with_vectors"] == (0 if changes.get("prompts") == "text" else 1 / model.batches)


def test_text_prompts_leave_the_projection_alone(workshop: Any) -> None:
    """The first batch is text, and its gradient reaches no projection; with vectors it does."""
    _, split, model = model_of(workshop)
    rows = split.train.collate_fn(list(range(8)))
    for epoch, reached in ((0, False), (10**6, True)):
        model.zero_grad(set_to_none=True)
        model.train().start_epoch(epoch)
        model.calculate_loss(rows).backward()
        assert all((w.grad is not None) == reached for w in model.item_projection.parameters())
        assert all(w.grad is not None for n, w in model.named_parameters() if "item_projection" not in n)


def test_switches_take_out_one_thing_each(workshop: Any) -> None:
    whole = {name for name, _ in model_of(workshop)[2].named_parameters()}
    left = {
        name: {weight for weight, _ in model_of(workshop, **changes)[2].named_parameters()}
        for name, changes in ablations.items()
    }
    assert left["no_curriculum"] == left["embedding_only"] == whole
    assert whole - left["text_only"] == {name for name in whole if name.startswith("item_projection.")}


@pytest.mark.parametrize("setting", ["sequence_embedding", "item_titles"])
def test_missing_files_are_answered_with_the_command(setting: str, workshop: Any) -> None:
    cell = workshop.provided(workshop.cell("LLaRA"))
    cell = replace(cell, settings=cell.settings.model_copy(update={setting: ""}))
    with pytest.raises(UserError, match=rf"LLaRA needs {setting}: .*run.py --model=LLaRA"):
        make_model(cell, workshop.split(cell))

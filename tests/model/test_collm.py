"""CoLLM: its prompts and mapping by hand, what each stage trains, what its switches leave."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.model.baseline.collm import CoLLM, CoLLMSettings, ablations
from recbole_llmgraph.suite.measure import parameter_counts
from recbole_llmgraph.suite.run import make_model
from recbole_llmgraph.train.checkpoint import load_trained_state, trained_state

CHECKPOINTS = Path(__file__).resolve().parents[3] / "shared" / "lm"
HISTORIES, USERS = [[3, 9, 4], [17], [5, 5, 30, 2, 48]], [7, 1, 40]
CASES: dict[str, dict[str, Any]] = {
    "preset": {},
    "paper": {"head": "trainable", "standardise": False, "tuning": "lora", "separator": ",",
              "title_tokens": 32, "user_row": "static", "feature": CoLLMSettings().feature},
    "the paper's slot alone": {"item_slots": False},
    "items' slots alone": {"user_row": "none"},
    "no collaborative vectors": {"use_collaborative_id": False},
}  # fmt: skip


def expected(known: Any, history: list[int], user: int, *, text_only: bool = False) -> torch.Tensor:
    """Scores from the paper's prompt: text, titles with e_i, text, e_u, text."""
    o = known.settings
    items = known.vectors(o.collaborative_items, known.split.item_tokens())
    rows = known.words(o.instruction)
    for item in history:
        rows += known.title(item)
        if o.item_slots and not text_only:
            rows.append(known.mapped(items[item], gelu=False))
    if o.user_row != "none" and not text_only:
        of_user = torch.stack([items[item] for item in history]).mean(0)
        if o.user_row == "static":
            tokens = [str(t) for t in known.split.dataset.field2id_token["user_id"]]
            of_user = known.vectors(o.collaborative_users, tokens)[user]
        rows += [*known.words(o.feature), known.mapped(of_user, gelu=False)]
    return known.logits(rows + known.words(o.response), items)


@pytest.mark.parametrize("case", CASES)
def test_scores_are_the_paper_s_prompt(case: str, workshop: Any, prompted: Any) -> None:
    known = prompted(workshop, "CoLLM", **CASES[case])
    batch = known.batch(HISTORIES, user_id=USERS)
    without = not known.settings.use_collaborative_id
    pairs = list(zip(HISTORIES, USERS, strict=True))
    known.check(batch, [expected(known, *pair, text_only=without) for pair in pairs])
    known.model.enter_phase("text")
    known.check(batch, [expected(known, *pair, text_only=True) for pair in pairs])


def test_scores_are_the_paper_s_prompt_on_a_trained_backbone(workshop: Any, prompted: Any) -> None:
    path = CHECKPOINTS / "stories260K" / "hf"
    if not (path / "config.json").is_file():
        pytest.skip("no stories260K/hf; put small trained Llamas beside the checkout, in shared/lm")
    known = prompted(workshop, "CoLLM", backbone=f"path:{path}", tuning="auto")
    assert known.model.tuned_by_lora and known.model.backbone_name == "stories260K/hf"
    batch = known.batch(HISTORIES, user_id=USERS)
    known.check(batch, [expected(known, *pair) for pair in zip(HISTORIES, USERS, strict=True)], rtol=1e-3)


def model_of(workshop: Any, **changes: Any) -> tuple[Any, Any, Any]:
    cell = workshop.provided(workshop.cell("CoLLM", **changes))
    split = workshop.split(cell)
    return cell, split, make_model(cell, split)


class Steps:
    """Weights at the end of every epoch, the beginning first."""

    def __init__(self, workshop: Any, folder: Path, **changes: Any) -> None:
        cell, split, self.model = model_of(workshop, **changes)
        self.weights, self.phases = [self._now()], ["start"]
        workshop.fit(cell, split, self.model, folder, on_epoch=self._note)

    def _note(self, entry: dict[str, Any]) -> None:
        self.weights.append(self._now())
        self.phases.append(entry["phase"])

    def _now(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters()}

    def moved(self, epoch: int) -> set[str]:
        """Weights that an epoch changed."""
        before, after = self.weights[epoch - 1], self.weights[epoch]
        return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_text_moves_the_language_model_and_then_the_mapping_alone_moves(
    tuning: str, workshop: Any, tmp_path: Path
) -> None:
    steps = Steps(workshop, tmp_path, tuning=tuning, text_epochs=1, epochs=1)
    assert steps.phases == ["start", "text", "mapping"]
    mapping = {f"item_projection.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")}
    names = set(steps.weights[0])
    head = {"score.weight", "score.bias"}
    backbone = {name for name in names if name.startswith("backbone.")}
    assert names == mapping | head | backbone
    trained = {name for name in backbone if "lora_" in name} if tuning == "lora" else backbone
    assert steps.moved(1) == trained | head
    assert steps.moved(2) == mapping
    if tuning == "lora":
        assert {name.split(".")[4] for name in trained} == {"q_proj", "v_proj"}
    counts = parameter_counts(steps.model)
    assert counts["trained"] == sum(steps.weights[0][name].numel() for name in trained | head | mapping)


def test_one_stage_moves_everything_at_once(workshop: Any, tmp_path: Path) -> None:
    steps = Steps(workshop, tmp_path, stages="one", text_epochs=1, epochs=1)
    assert steps.phases == ["start", "joint", "joint"]
    assert steps.moved(1) == steps.moved(2) == set(steps.weights[0])


def test_a_frozen_head_never_moves(workshop: Any, tmp_path: Path) -> None:
    steps = Steps(workshop, tmp_path, head="frozen", text_epochs=1, epochs=1)
    assert "score.weight" in set(steps.weights[0]) - steps.moved(1) - steps.moved(2)


def test_stages_share_one_budget() -> None:
    for changes in ({}, *ablations.values()):
        phases = CoLLM.phases(CoLLMSettings(text_epochs=2, epochs=3, **changes))
        assert sum(phase.epochs for phase in phases) == 5
        assert phases[-1].selects and not any(phase.selects for phase in phases[:-1])


def test_checkpoints_of_the_second_stage_hold_what_the_first_trained(
    workshop: Any, tmp_path: Path, scored: Any
) -> None:
    cell, split, model = model_of(workshop, tuning="lora", text_epochs=1, epochs=1)
    workshop.fit(cell, split, model, tmp_path)
    kept = trained_state(model)
    assert any("lora_" in name for name in kept) and "score.weight" in kept
    assert not any(name.startswith("backbone.") and "lora_" not in name for name in kept)
    again = make_model(cell, split)
    load_trained_state(again, kept)
    assert torch.equal(scored(again, split.test), scored(model, split.test))


def test_a_user_s_slot_knows_no_more_than_the_history(workshop: Any) -> None:
    """`history` reads items before the target; `static` is a row of a table whose training saw the target."""
    for user_row, differs in (("history", False), ("static", True)):
        _, split, model = model_of(workshop, user_row=user_row, item_slots=False)
        rows = split.train.collate_fn(list(range(4)))
        one, other = (rows["user_id"], rows["user_id"].flip(0))
        with torch.no_grad():
            a, b = (model.eval()(rows["item_id_list"], rows["item_length"], users) for users in (one, other))
        assert bool((one != other).any()) and torch.equal(a, b) != differs


def test_switches_take_out_one_thing_each(workshop: Any) -> None:
    whole = {name for name, _ in model_of(workshop)[2].named_parameters()}
    parts = {name: model_of(workshop, **changes)[2] for name, changes in ablations.items()}
    left = {name for name, _ in parts["no_collaborative"].named_parameters()}
    assert whole - left == {name for name in whole if name.startswith("item_projection.")}
    assert {name for name, _ in parts["one_stage"].named_parameters()} == whole
    with pytest.raises(UserError, match="leave no slot"):
        model_of(workshop, user_row="none", item_slots=False)
    with pytest.raises(UserError, match=r"CoLLM\.head='tied'"):
        model_of(workshop, head="tied")


@pytest.mark.parametrize("setting", ["collaborative_items", "collaborative_users", "item_titles"])
def test_missing_files_are_answered_with_the_command(setting: str, workshop: Any) -> None:
    cell = workshop.provided(workshop.cell("CoLLM", user_row="static"))
    cell = replace(cell, settings=cell.settings.model_copy(update={setting: ""}))
    with pytest.raises(UserError, match=rf"CoLLM needs {setting}: .*run.py --model=CoLLM"):
        make_model(cell, workshop.split(cell))


def test_titles_are_the_dataset_s_texts_and_part_of_the_key(workshop: Any, miniature: Any) -> None:
    from recbole_llmgraph.base.hashing import hash_data
    from recbole_llmgraph.data.side import item_texts
    from recbole_llmgraph.suite.provide import identify

    cell = workshop.cell("CoLLM")
    texts = item_texts(miniature.ready)
    told = identify(cell, miniature.ready, lambda stage: stage.model.name)
    assert told == {"collaborative_items": "LightGCN", "item_titles": hash_data(texts)}
    model = model_of(workshop)[2]
    assert len(model.titles.counts) == len(texts) + 1 and int(model.titles.counts[0]) == 0
    assert bool((model.titles.counts[1:] == 4).all())

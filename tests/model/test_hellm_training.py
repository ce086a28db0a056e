"""What of HeLLM is trained and kept, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_llmgraph.artifact.tables import load_table, save_table
from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host.dataset import permute_targets
from recbole_llmgraph.model.hellm import HeLLMSettings, ablations
from recbole_llmgraph.suite.measure import parameter_counts
from recbole_llmgraph.suite.run import make_model
from recbole_llmgraph.train.checkpoint import load_trained_state, trained_state

LORA = {"tuning": "lora", "epochs": 1}


def model_of(workshop: Any, **changes: Any) -> tuple[Any, Any, Any]:
    cell = workshop.provided(workshop.cell("HeLLM", **changes))
    split = workshop.split(cell)
    return cell, split, make_model(cell, split)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_lora_trains_adapters_and_projections_and_leaves_the_backbone(workshop: Any, tmp_path: Path) -> None:
    cell, split, model = model_of(workshop, **LORA, head="frozen")
    before = weights(model)
    workshop.fit(cell, split, model, tmp_path)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert moved == trained
    inside = {name for name in trained if name.startswith("backbone.")}
    assert inside and all("lora_" in name for name in inside)
    assert {name.split(".")[4] for name in inside} == {"gate_proj", "up_proj", "down_proj"}
    outside = {name.split(".")[0] for name in trained - inside}
    assert outside == {"item_projection", "prefix", "key_net", "value_net"}


def test_full_tuning_trains_all_of_the_backbone_that_is_read(workshop: Any, tmp_path: Path) -> None:
    cell, split, model = model_of(workshop, epochs=1)
    before = weights(model)
    workshop.fit(cell, split, model, tmp_path)
    still = {name for name, weight in model.named_parameters() if torch.equal(weight, before[name])}
    assert still == set()


def test_a_frozen_head_gets_no_gradient(workshop: Any) -> None:
    for head, trained in (("frozen", False), ("trainable", True)):
        _, split, model = model_of(workshop, head=head)
        assert model.score.weight.requires_grad == trained
        rows = split.train.collate_fn(list(range(8)))
        model.calculate_loss(rows).backward()
        assert (model.score.weight.grad is not None) == trained
        counts = parameter_counts(model)
        assert counts["total"] - counts["trained"] == (0 if trained else model.score.weight.numel())


def test_what_is_trained_is_fp32(workshop: Any) -> None:
    for tuning in ("full", "lora"):
        model = model_of(workshop, tuning=tuning, dtype="bf16")[2]
        assert {w.dtype for w in model.parameters() if w.requires_grad} == {torch.float32}


def test_auto_tunes_built_in_backbones_whole(workshop: Any) -> None:
    assert not model_of(workshop)[2].tuned_by_lora
    assert model_of(workshop, tuning="lora")[2].tuned_by_lora


def test_checkpoints_leave_the_frozen_backbone_out_and_scores_come_back(
    workshop: Any, tmp_path: Path, scored: Any
) -> None:
    cell, split, model = model_of(workshop, **LORA, head="frozen")
    workshop.fit(cell, split, model, tmp_path)
    kept = trained_state(model)
    frozen = {n for n, w in model.named_parameters() if n.startswith("backbone.") and not w.requires_grad}
    assert frozen and not frozen & kept.keys()
    assert "score.weight" in kept  # the release's checkpoints lack it and cannot be read without the seed
    torch.manual_seed(99)
    again = cell.model_class(split.config, split.dataset)
    assert not torch.equal(scored(again, split.test), scored(model, split.test))
    load_trained_state(again, kept)
    assert torch.equal(scored(again, split.test), scored(model, split.test))


def test_a_checkpoint_of_other_settings_is_refused(workshop: Any) -> None:
    _, _, model = model_of(workshop, **LORA)
    _, _, other = model_of(workshop, **LORA, prefix="none")
    with pytest.raises(RuntimeError, match=r"missing .*prefix\.learned_key"):
        load_trained_state(model, trained_state(other))
    with pytest.raises(RuntimeError, match=r"foreign .*prefix\.learned_key"):
        load_trained_state(other, trained_state(model))


@pytest.mark.parametrize("setting", ["graph_embedding", "sequence_embedding"])
def test_missing_tables_are_answered_with_the_command(setting: str, workshop: Any) -> None:
    cell = workshop.provided(workshop.cell("HeLLM"))
    cell = replace(cell, settings=cell.settings.model_copy(update={setting: ""}))
    with pytest.raises(UserError, match=rf"HeLLM needs {setting}: .*recbole_settings.*run.py --model=HeLLM"):
        make_model(cell, workshop.split(cell))


@pytest.mark.parametrize("setting", ["graph_embedding", "sequence_embedding"])
def test_tables_of_another_split_are_refused(setting: str, workshop: Any, tmp_path: Path) -> None:
    cell = workshop.provided(workshop.cell("HeLLM"))
    table = load_table(Path(getattr(cell.settings, setting)))
    for meta in ({**table.meta, "training_fingerprint": "0" * 16}, {}):
        save_table(tmp_path / "other.safetensors", table.tokens, table.rows, meta)
        told = cell.settings.model_copy(update={setting: str(tmp_path / "other.safetensors")})
        changed = replace(cell, settings=told)
        with pytest.raises(UserError, match=rf"{setting}=.* was trained on another split"):
            make_model(changed, workshop.split(changed))


def test_tables_are_refused_where_training_itself_differs(workshop: Any) -> None:
    """Other targets are the same training part; another training item is not."""
    cell = workshop.provided(workshop.cell("HeLLM"))
    make_model(cell, workshop.split(cell, permute_targets(2, 1)))
    with pytest.raises(UserError, match="another split"):
        make_model(cell, workshop.split(cell, permute_targets(3, 1)))


def test_a_table_that_lacks_an_item_is_named(workshop: Any, tmp_path: Path) -> None:
    cell = workshop.provided(workshop.cell("HeLLM"))
    table = load_table(Path(cell.settings.graph_embedding))
    save_table(tmp_path / "short.safetensors", table.tokens[:-1], table.rows[:-1], table.meta)
    told = cell.settings.model_copy(update={"graph_embedding": str(tmp_path / "short.safetensors")})
    changed = replace(cell, settings=told)
    with pytest.raises(UserError, match=f"none for token '{table.tokens[-1]}'"):
        make_model(changed, workshop.split(changed))


def test_items_need_one_vector_at_least(workshop: Any) -> None:
    with pytest.raises(UserError, match="use_graph_id and use_sequence_id are both off; keep one"):
        model_of(workshop, use_graph_id=False, use_sequence_id=False)


def test_switches_take_out_one_thing_each(workshop: Any) -> None:
    """Rows of HeLLM's Table 3: what each leaves out shows in the weights that are left."""
    whole = model_of(workshop)[2]
    width = whole.item_projection[0].in_features
    parts = {name: model_of(workshop, **changes)[2] for name, changes in ablations.items()}
    assert not hasattr(parts["no_gnn_peft"], "key_net") and hasattr(parts["no_gnn_peft"], "prefix")
    assert parts["no_gnn_peft"].item_projection[0].in_features == width
    for name in ("no_gnn_id", "no_seq_id"):
        assert parts[name].item_projection[0].in_features == width // 2
        assert hasattr(parts[name], "key_net")
    no_graph, no_sequence = parts["no_gnn_id"].item_vectors, parts["no_seq_id"].item_vectors
    assert torch.equal(torch.cat([no_sequence, no_graph], 1), whole.item_vectors)
    assert not hasattr(model_of(workshop, prefix="none")[2], "prefix")


def test_standardised_columns_have_zero_mean_and_unit_variance(workshop: Any) -> None:
    _, _, model = model_of(workshop)
    rows = model.item_vectors
    assert float(rows[0].abs().sum()) == 0
    torch.testing.assert_close(rows[1:].mean(0), torch.zeros(rows.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows[1:].std(0), torch.ones(rows.shape[1]), atol=1e-5, rtol=0)


def test_the_row_says_what_is_ours(workshop: Any) -> None:
    notes = model_of(workshop)[2].notes
    assert notes[0] == "backbone builtin:llama-mini" and "head feature" in notes
    assert any("this suite's choices" in note for note in notes)
    plain = model_of(workshop, head="frozen", standardise=False)[2].notes
    assert not any("this suite's choices" in note for note in plain)


def test_fidelity_settles_what_is_not_named() -> None:
    release, paper = HeLLMSettings(), HeLLMSettings(fidelity="paper")
    assert (release.head, release.bos, release.learner) == ("frozen", "release", "adamw")
    assert (paper.head, paper.bos, paper.learner) == ("trainable", "once", "adam")
    assert HeLLMSettings(fidelity="paper", head="tied").head == "tied"


def test_a_backbone_is_the_same_for_one_seed_and_another_for_another(workshop: Any) -> None:
    first, second = model_of(workshop)[2], model_of(workshop)[2]
    cell = workshop.provided(workshop.cell("HeLLM", seed=2))
    other = make_model(cell, workshop.split(cell))
    name = "backbone.layers.0.mlp.up_proj.weight"
    assert torch.equal(first.state_dict()[name], second.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_unknown_backbones_are_named(workshop: Any) -> None:
    with pytest.raises(UserError, match=r"no built-in backbone 'llama-mimi'\. Did you mean 'llama-mini'\?"):
        model_of(workshop, backbone="builtin:llama-mimi")
    with pytest.raises(UserError, match="t5"):
        model_of(workshop, backbone="builtin:t5-mini")

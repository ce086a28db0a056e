"""What every model of the catalogue keeps, whoever wrote it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host import evaluation
from recbole_llmgraph.host.evaluation import Judge
from recbole_llmgraph.host.models import read_settings
from recbole_llmgraph.model.catalogue import model_cards
from recbole_llmgraph.suite.run import make_model
from recbole_llmgraph.train.checkpoint import load_trained_state, trained_state

MODELS = sorted(model_cards())
#: Its "training" is one count: no loss, nothing to select.
COUNTED = {"Pop"}

pytestmark = pytest.mark.parametrize("name", MODELS)


def test_equal_seeds_give_equal_scores_to_the_bit(
    name: str, workshop: Any, tmp_path: Path, differing: Any
) -> None:
    first = workshop.reference(name)
    again = workshop.train(first.cell, tmp_path)
    assert differing(first.model, again.model) == []
    assert torch.equal(first.scores(), again.scores())
    assert [e["loss"] for e in first.progress.history] == [e["loss"] for e in again.progress.history]


def test_another_seed_gives_other_scores(name: str, workshop: Any) -> None:
    if name in COUNTED:
        pytest.skip("counts know no seed")
    first = workshop.reference(name)
    cell = workshop.provided(workshop.cell(name, seed=2))
    other = make_model(cell, workshop.split(cell))
    mine = make_model(first.cell, first.split)
    same = [torch.equal(a, b) for a, b in zip(mine.parameters(), other.parameters(), strict=True)]
    assert not all(same)


def test_the_loss_falls_and_clusters_are_found(name: str, workshop: Any) -> None:
    trained = workshop.reference(name)
    judged = trained.judge(trained.model, "test").metrics["train"]
    if name in COUNTED:
        # every item is as frequent as any other, but for chance
        assert judged["recall@20"] < 0.7
        return
    history = trained.progress.history
    for phase in {entry["phase"] for entry in history}:
        losses = [entry["loss"] for entry in history if entry["phase"] == phase]
        assert len(losses) == 1 or losses[-1] < losses[0]
    popular = workshop.reference("Pop", trained.cell.protocol)
    popularity = popular.judge(popular.model, "test").metrics["train"]
    assert judged["ndcg@20"] > 1.5 * popularity["ndcg@20"]


def test_predict_is_the_matching_column_of_full_sort_predict(name: str, workshop: Any) -> None:
    trained = workshop.reference(name)
    trained.model.eval()
    loader = trained.split.test
    interaction = loader.collate_fn(np.arange(loader.sample_size))[0]
    items = torch.from_numpy(np.random.default_rng(0).integers(1, trained.split.n_items, len(interaction)))
    interaction.update(type(interaction)({trained.split.dataset.iid_field: items}))
    with torch.no_grad():
        single = trained.model.predict(interaction)
        columns = trained.scores().gather(1, items.view(-1, 1)).squeeze(1)
    torch.testing.assert_close(single.view(-1).float(), columns.float(), rtol=1e-5, atol=1e-5)


def test_kept_weights_give_the_same_scores_in_a_new_model(
    name: str, workshop: Any, tmp_path: Path, scored: Any
) -> None:
    trained = workshop.reference(name)
    expected = trained.scores()
    torch.save(trained_state(trained.model), tmp_path / "weights.pt")
    fresh = make_model(workshop.provided(workshop.cell(name, seed=1)), trained.split)
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    fresh.eval()
    before = scored(fresh, trained.split.test)  # what a model keeps for scoring must not outlive its weights
    load_trained_state(fresh, state)
    after = scored(fresh, trained.split.test)
    assert torch.equal(after, expected)
    assert not torch.equal(before, expected)


def test_padding_is_never_recommended(name: str, workshop: Any) -> None:
    trained = workshop.reference(name)
    for part in ("valid", "test"):
        items = trained.judge(trained.model, part).items
        for mask in ("none", "train"):
            assert items[mask].min() >= 1
            assert all(len(set(row)) == len(row) for row in items[mask].tolist())


def test_resuming_after_any_epoch_equals_never_stopping(
    name: str, workshop: Any, tmp_path: Path, differing: Any
) -> None:
    whole = workshop.reference(name)
    epochs, snapshots = whole.progress.epochs_run, workshop.snapshots(name)
    middle = {1, epochs // 2, epochs - 1} - {0, epochs}
    after = {number: snapshots / f"{number}.pt" for number in middle}
    after[epochs] = snapshots / "work" / "checkpoint.pt"  # finished, but not told yet
    for number, checkpoint in after.items():
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(checkpoint, folder / "checkpoint.pt")
        trained: list[dict[str, Any]] = []
        resumed = workshop.train(whole.cell, folder, on_epoch=trained.append)
        assert len(trained) == epochs - number
        assert differing(whole.model, resumed.model) == []
        assert torch.equal(whole.scores(), resumed.scores())
        assert _told(resumed.progress) == _told(whole.progress)


def _told(progress: Any) -> Any:
    """All that is remembered of a training but its clock."""
    history = [{k: v for k, v in entry.items() if k != "seconds"} for entry in progress.history]
    return history, progress.best_epoch, progress.best_score, progress.epochs_run, progress.since_best


def test_settings_survive_recboles_config(name: str, workshop: Any) -> None:
    cell = workshop.provided(workshop.cell(name))
    config = workshop.reference(name).split.config
    assert read_settings(type(cell.settings), config) == cell.settings


def test_an_unknown_setting_is_answered_with_the_nearest(name: str, workshop: Any) -> None:
    with pytest.raises(UserError, match=r"no setting of .* 'learning_rat'\. Did you mean 'learning_rate'\?"):
        workshop.cell(name, learning_rat=0.1)
    with pytest.raises(UserError, match=rf"{name}.epochs='many'"):
        workshop.cell(name, epochs="many")


def test_batches_and_acceleration_leave_every_metric_as_it_is(
    name: str, workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = workshop.reference(name)
    usual = trained.judge(trained.model, "test")
    plain = Judge(trained.split, accelerate=False)(trained.model, "test")
    monkeypatch.setattr(evaluation, "SCORES_AT_ONCE", 7 * trained.split.n_items)
    small = trained.judge(trained.model, "test")
    for other in (plain, small):
        assert other.metrics == usual.metrics
        assert other.per_user.equals(usual.per_user)
        assert np.array_equal(other.users, usual.users)

"""GAL-Rec's stages: vectors of items and users from SASRec and LightGCN, and no leak through them."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recbole_llmgraph.artifact.tables import load_table, rows_for, save_table
from recbole_llmgraph.host.dataset import permute_targets, training_histories
from recbole_llmgraph.suite.run import Runner, make_model

#: Trained by whom.
STAGES = {"lightgcn": "LightGCN", "sasrec": "SASRec"}
SMALL = {"epochs": 1, "rows_per_epoch": 96, "gal_rows": 4, "text_encoder": "tfidf:16"}


def stage_tables(
    workshop: Any, source: str, folder: Path, before_build: Any = None
) -> tuple[Any, dict[str, Path]]:
    """Train a stage on a split, perhaps with other targets, and write both its tables."""
    cell = workshop.cell(STAGES[source], epochs=1, eval_step=0)
    trained = workshop.train(cell, folder / "work", before_build=before_build)
    split, model = trained.split, trained.model.eval()
    files = {}
    for side, tokens in (("item", split.item_tokens()), ("user", split.user_tokens())):
        files[side] = folder / f"{side}.safetensors"
        rows = getattr(model, f"{side}_table")()
        assert not rows[0].any()
        meta = {"training_fingerprint": split.training_fingerprint}
        save_table(files[side], tokens[1:], rows[1:], meta)
    return trained, files


def on_tables(workshop: Any, source: str, files: dict[str, Path], **changes: Any) -> Any:
    """A GALRec cell that reads these tables."""
    cell = workshop.cell("GALRec", source=source, user_row="static", **SMALL, **changes)
    texts = workshop.provided(workshop.cell("GALRec", **SMALL)).settings.item_texts
    paths = {"item_vectors": str(files["item"]), "user_vectors": str(files["user"]), "item_texts": texts}
    return replace(cell, settings=cell.settings.model_copy(update=paths))


# ---- users' vectors


def test_training_histories_are_the_last_training_items(workshop: Any, miniature: Any) -> None:
    split = workshop.split(workshop.cell("SASRec"))
    tokens = split.item_tokens()
    for longest in (1, 3, 50):
        histories, lengths = training_histories(split.dataset, longest)
        assert histories.shape == (split.n_users, longest) and lengths[0] == 0
        for number, user in enumerate(split.user_tokens()[1:], start=1):
            expected = miniature.parts()[user]["train"][-longest:]
            assert [tokens[item] for item in histories[number, : lengths[number]]] == expected
            assert not histories[number, lengths[number] :].any()


def test_a_users_vector_is_sasrecs_state_after_her_training_items(workshop: Any, miniature: Any) -> None:
    """By RecBole's own forward pass, one user at a time, padded to the full length."""
    trained = workshop.reference("SASRec")
    model, split = trained.model.eval(), trained.split
    place = {token: number for number, token in enumerate(split.item_tokens())}
    table = model.user_table()
    assert table.shape == (split.n_users, 8) and not table[0].any()
    for number in (1, 7, 30, split.n_users - 1):
        items = [place[item] for item in miniature.parts()[split.user_tokens()[number]]["train"]][-6:]
        padded = torch.tensor([items + [0] * (6 - len(items))])
        model.accelerated = False
        with torch.no_grad():
            expected = model.forward(padded, torch.tensor([len(items)]))
        model.accelerated = True
        torch.testing.assert_close(table[number], expected[0], rtol=1e-4, atol=1e-5)


def test_lightgcns_tables_are_what_it_scores_with(workshop: Any) -> None:
    trained = workshop.reference("LightGCN")
    users, items = trained.model.eval().user_table(), trained.model.item_table()
    loader = trained.split.test
    rows = loader.uid_list
    torch.testing.assert_close((users[rows] @ items.T)[:, 1:], trained.scores()[:, 1:])


@pytest.mark.parametrize("source", STAGES)
@pytest.mark.parametrize("user_row", ["history", "static"])
def test_sources_run_and_read_their_own_tables(
    source: str, user_row: str, workshop: Any, miniature: Any
) -> None:
    cell = workshop.provided(workshop.cell("GALRec", source=source, user_row=user_row, **SMALL))
    assert bool(cell.settings.user_vectors) == (user_row == "static")
    split = workshop.split(cell)
    model = make_model(cell, split)
    table = rows_for(load_table(Path(cell.settings.item_vectors)), split.item_tokens())
    assert torch.equal(model.reader.external.items, table)
    users: Tensor = model.reader.external.users
    if user_row == "static":
        expected = rows_for(load_table(Path(cell.settings.user_vectors)), split.user_tokens())
        assert torch.equal(users, expected)
    else:
        place = {token: number for number, token in enumerate(split.item_tokens())}
        train = [place[item] for item in miniature.parts()[split.user_tokens()[5]]["train"]]
        torch.testing.assert_close(users[5], table[train].mean(0))
    loss = model.calculate_loss(split.train.collate_fn(list(range(12))))
    loss.backward()
    assert torch.isfinite(loss) and model.reader.external.mapping.weight.grad.any()


# ---- by the command's own road


@pytest.mark.parametrize("source", STAGES)
def test_a_cell_trains_its_stage_once_and_names_it(source: str, workshop: Any) -> None:
    runner = Runner(workshop.house)
    cell = workshop.cell("GALRec", source=source, user_row="static", seed=5, **SMALL)
    record = runner.run(cell)
    stage = STAGES[source]
    assert [one.model for one in record.stages] == [stage]  # once, though it gave two tables
    assert f"source {source}, user_row static" in record.notes
    assert record.text_encoder is None and record.backbone == "builtin:t5-mini"
    other = runner.key(workshop.cell("GALRec", source=source, user_row="history", seed=5, **SMALL))
    assert other != record.key
    assert runner.run(cell).finished == record.finished  # found, not trained again


def test_a_stage_without_users_vectors_makes_them_now(workshop: Any) -> None:
    """A store filled before users' vectors were kept: the run stays, the table is made."""
    runner = Runner(workshop.house)
    cell = workshop.cell("LightGCN", seed=6, epochs=1)
    record = runner.run(cell)
    user, item = (runner.table(cell, side) for side in ("user", "item"))
    before = user.read_bytes()
    shutil.rmtree(user.parent)
    again = runner.table(cell, "user")
    assert again.read_bytes() == before and item.exists()
    assert runner.run(cell).finished == record.finished


# ---- leaks, stages included


@pytest.mark.parametrize("source", STAGES)
def test_targets_change_no_vector_and_no_weight(
    source: str, workshop: Any, tmp_path: Path, differing: Any
) -> None:
    """Audit (a): other validation and test targets, drawn anew, and a fixed number of epochs."""
    runs = []
    for name, hook in (("whole", None), ("other", permute_targets(2, 11, redraw=True))):
        _, files = stage_tables(workshop, source, tmp_path / name, hook)
        cell = on_tables(workshop, source, files, eval_step=0)
        trained = workshop.train(cell, tmp_path / name / "galrec", before_build=hook)
        runs.append((trained, [file.read_bytes() for file in files.values()]))
    (whole, tables), (other, others) = runs
    assert tables == others
    assert differing(whole.model, other.model) == []
    assert [e["loss"] for e in whole.progress.history] == [e["loss"] for e in other.progress.history]
    assert not torch.equal(whole.scores("test"), other.scores("test"))  # other histories reached the scores


@pytest.mark.parametrize("source", STAGES)
def test_test_targets_change_no_selection(source: str, workshop: Any, tmp_path: Path, differing: Any) -> None:
    """Audit (b): test targets alone permuted among users; validation picks the same epoch."""
    _, files = stage_tables(workshop, source, tmp_path)
    cell = on_tables(workshop, source, files, eval_step=1)
    whole, other = (
        workshop.train(cell, tmp_path / name, before_build=hook)
        for name, hook in (("whole", None), ("other", permute_targets(1, 12)))
    )
    assert differing(whole.model, other.model) == []
    assert whole.progress.best_score == other.progress.best_score > 0
    assert whole.scores("valid").equal(other.scores("valid"))


@pytest.mark.parametrize("setting", ["item_vectors", "user_vectors"])
def test_tables_of_another_split_are_refused(setting: str, workshop: Any, tmp_path: Path) -> None:
    from recbole_llmgraph.base.errors import UserError

    cell = workshop.provided(workshop.cell("GALRec", source="lightgcn", user_row="static", **SMALL))
    table = load_table(Path(getattr(cell.settings, setting)))
    save_table(tmp_path / "o.safetensors", table.tokens, table.rows, {"training_fingerprint": "0"})
    told = cell.settings.model_copy(update={setting: str(tmp_path / "o.safetensors")})
    changed = replace(cell, settings=told)
    with pytest.raises(UserError, match=rf"{setting}=.* was trained on another split"):
        make_model(changed, workshop.split(changed))

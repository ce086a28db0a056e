"""Our models in a user's own RecBole script, as the README shows it: RecBole's loaders and trainer."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: What a notebook or a test runner leaves there; RecBole reads it in every `Config`.
FOREIGN = ["script.py", "-f", "kernel.json", "--knn_k=1", "--foo=1", "tests", "-k", "x=y"]

#: RecBole's numbers as `print` shows them.
NDCG = re.compile(r"'ndcg@10', (?:np\.float64\()?([\d.]+)")


def script() -> str:
    """The README's fenced block that names `recbole_settings`."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    (found,) = [block for block in blocks if "recbole_settings" in block]
    return str(found)


def on_the_miniature(model: str, miniature: Any, **changes: Any) -> str:
    """The same script for another model, on the miniature."""
    text = script()
    given = {"data": str(miniature.data), "source": str(miniature.source), **changes}
    more = ", ".join(f"{name}={value!r}" for name, value in given.items())
    text, calls = re.subn(
        r'recbole_settings\("HeLLM", "ml-100k", preset="quick"[^)]*\)',
        f'recbole_settings("HeLLM", {str(miniature.card_path)!r}, preset="quick", {more})',
        text,
    )
    text, names = re.subn(r'dataset="ml-100k"', 'dataset="mini"', text)
    assert (calls, names) == (1, 1), "the README's script changed; this test reads its words"
    return text.replace("HeLLM", model)


def run(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], str]:
    """Names that a script leaves, and what it prints."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", FOREIGN)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # RecBole writes it; put back afterwards
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, "README.md", "exec"), names)
    return names, printed.getvalue()


def test_the_script_is_ten_lines() -> None:
    assert (
        len([line for line in script().splitlines() if line and not line.startswith(("from", "import"))])
        <= 10
    )


def test_hellm_trains_and_is_judged_by_recbole_alone(
    miniature: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recbole_llmgraph.host.evaluation import Judge
    from recbole_llmgraph.store.runs import read_stores

    text = on_the_miniature("HeLLM", miniature, epochs=1, max_history=6, train_batch_size=32)
    names, printed = run(text, tmp_path, monkeypatch)
    assert NDCG.search(printed)
    config, model, trainer, test = (names[name] for name in ("config", "model", "trainer", "test"))
    assert (
        config["MAX_ITEM_LIST_LENGTH"] == 6 and config["foo"] == 1
    )  # RecBole took the arguments for its own
    told = dict(trainer.evaluate(test, load_best_model=False, show_progress=False))
    assert 0 < told["ndcg@10"] < 1
    # RecBole's verdict on this model is ours under mask `none`
    from recbole_llmgraph.host.dataset import Split

    split = Split(config=config, train=names["train"], valid=names["valid"], test=test)
    ours = Judge(split)(model, "test").metrics["none"]
    assert ours == pytest.approx(told, abs=1e-12)
    # the stages it stands on were trained by the suite, which lets no argument of the process in
    stages = {run.record.model: run.record for run in read_stores([tmp_path / "runs"]).runs}
    assert set(stages) == {"HeLLMPre", "SASRec"}
    assert stages["HeLLMPre"].settings["knn_k"] == 5
    assert stages["HeLLMPre"].split_fingerprint == split.fingerprint
    assert sys.argv == FOREIGN


@pytest.mark.parametrize("model", ["HeLLMPre", "LightGCN", "SASRec", "Pop"])
def test_every_kind_of_model_runs_from_the_script(
    model: str, miniature: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"epochs": 1} | ({"text_encoder": "tfidf:16", "knn_k": 4} if model == "HeLLMPre" else {})
    names, printed = run(on_the_miniature(model, miniature, **changes), tmp_path, monkeypatch)
    assert "recall@20" in printed
    assert type(names["model"]).__name__ == model


def test_without_the_suites_settings_the_error_names_them(
    miniature: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recbole_llmgraph.base.errors import UserError

    text = on_the_miniature("HeLLM", miniature)
    line = re.search(r"^settings = .*$", text, re.M)
    assert line is not None
    bare = {
        "data_path": str(miniature.ready.folder.parent), "train_neg_sample_args": None,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "show_progress": False,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"HeLLM needs graph_embedding: pass config_dict=recbole_settings"):
        run(text.replace(line[0], f"settings = {bare!r}"), tmp_path, monkeypatch)


def test_mistakes_in_the_settings_are_named(
    miniature: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recbole_llmgraph import recbole_settings
    from recbole_llmgraph.base.errors import UserError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no setting of HeLLM 'epoch'\. Did you mean 'epochs'\?"):
        recbole_settings("HeLLM", str(miniature.card_path), epoch=1)
    with pytest.raises(UserError, match="the suite provides this file"):
        recbole_settings("HeLLM", str(miniature.card_path), graph_embedding="mine.safetensors")
    with pytest.raises(AttributeError, match="no attribute 'HeLM'"):
        __import__("recbole_llmgraph").HeLM  # noqa: B018
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_readmes_script_word_for_word(tmp_path: Path) -> None:
    """On MovieLens-100K out of RecBole's wheel, with arguments of somebody else."""
    (tmp_path / "script.py").write_text(script())
    done = subprocess.run(
        [sys.executable, "script.py", *FOREIGN[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ndcg = NDCG.search(done.stdout)
    assert ndcg is not None and 0.01 < float(ndcg[1]) < 0.2

"""`benchmarks/report.py` as people type it, and its pages."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from recbole_llmgraph.report.boards import boards_text, choose, read_boards, selected, write_reports
from recbole_llmgraph.report.leaderboard import leaderboards
from recbole_llmgraph.report.pages import dataset_page
from recbole_llmgraph.store.frame import runs_frame
from recbole_llmgraph.store.runs import RunStore, StoredRun, publish, read_stores

COMMAND = str(Path(__file__).resolve().parents[2] / "benchmarks" / "report.py")


@dataclass
class Answer:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def report(tmp_path, monkeypatch, capsys) -> Callable[..., Answer]:
    """The command in this process (half a second cheaper), its folder as the current one."""
    spec = importlib.util.spec_from_file_location("report_command", COMMAND)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = module.main(arguments)
        return Answer(code, *capsys.readouterr())

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Files below a folder, the site and the pages of papers apart (they have tests of their own)."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {
        n: text for n, text in found.items() if not n.startswith(("site/", "tables/")) and n not in PAPERS
    }


PAPERS = ("published.md", "claims.md")


def test_it_prints_and_writes_and_a_second_run_changes_nothing(add, report, tmp_path):
    add()
    add("SASRec", seed=2)
    add(dataset="sports")
    first = report("--expect", "HeLLM,SASRec,Pop")
    assert first.returncode == 0, first.stderr
    assert "# beauty" in first.stdout and "# sports" in first.stdout and "mask none" not in first.stdout
    assert "--model=Pop --dataset=sports --preset=standard --protocol=seq" in first.stdout
    pages = contents(tmp_path / "reports")
    assert sorted(pages) == ["README.md", "beauty.md", "sports.md"]
    beauty = pages["beauty.md"].decode()
    assert beauty.index("mask train") < beauty.index("mask none") and "do not edit" in beauty.splitlines()[0]
    assert "[beauty](beauty.md)" in pages["README.md"].decode()
    assert str(tmp_path) not in "".join(page.decode() for page in pages.values())
    assert (tmp_path / "reports/site/index.html").is_file()
    assert all((tmp_path / "reports" / name).is_file() for name in PAPERS)
    files = [path for path in (tmp_path / "reports").rglob("*") if path.is_file()]
    stamps = {path: path.stat().st_mtime_ns for path in files}
    assert report("--expect", "HeLLM,SASRec,Pop").stdout == first.stdout
    assert contents(tmp_path / "reports") == pages
    assert {path: path.stat().st_mtime_ns for path in files} == stamps


def test_dataset_and_mask_choose_what_is_printed(add, report, tmp_path):
    add()
    add(dataset="sports")
    found = report("--dataset", "amazon-beauty", "--mask", "none")
    assert found.returncode == 0, found.stderr
    assert (
        "mask none" in found.stdout and "mask train\n" not in found.stdout and "# sports" not in found.stdout
    )
    assert sorted(contents(tmp_path / "reports")) == ["README.md", "beauty.md"]
    index = (tmp_path / "reports/README.md").read_text()
    assert "| sports" in index and "[sports]" not in index


def test_pairs_are_printed_and_written(add, report, tmp_path):
    add(hit=0.4)
    add("SASRec")
    found = report("--dataset", "beauty", "--paired", "HeLLM,SASRec")
    assert found.returncode == 0, found.stderr
    assert "| recall@10 |" in found.stdout and "Holm" in found.stdout
    assert (tmp_path / "reports/paired-beauty-HeLLM-SASRec.md").read_text().endswith(found.stdout[-200:-1])


def test_publishing_makes_links(add, report, tmp_path):
    add(key="0123456789abcdef")
    add("Quick", preset="quick")
    assert report("--publish").returncode == 0
    pages = contents(tmp_path / "reports")
    assert [name for name in pages if name.startswith("runs/")] == [
        "runs/beauty/HeLLM/0123456789abcdef/per_user.parquet",
        "runs/beauty/HeLLM/0123456789abcdef/run.json",
    ]
    assert b"[`01234567`](runs/beauty/HeLLM/0123456789abcdef/run.json)" in pages["beauty.md"]
    # a checkout without the local store tells the same about standard runs
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert b"0123456789abcdef/run.json" in contents(tmp_path / "reports")["beauty.md"]
    assert report("--preset", "standard").returncode == 0


def test_broken_folders_are_named_and_the_rest_is_shown(add, report, tmp_path):
    add()
    bad = add("Broken")
    (bad / "run.json").write_text("{")
    found = report()
    assert found.returncode == 0 and "HeLLM" in found.stdout
    assert f"{bad}: left out" in found.stderr
    index = (tmp_path / "reports/README.md").read_text()
    assert f"`beauty/Broken/{bad.name}`: left out" in index and str(tmp_path) not in index


def test_published_tables_and_claims_are_printed_by_name(add, report, tmp_path):
    add("LightGCN", hit=0.1)
    add("HeLLMPre", hit=0.6)
    found = report("--published", "hellm_table1", "--dataset", "beauty")
    assert found.returncode == 0 and "## HeLLM, Table 1" in found.stdout and "## GAL-Rec" not in found.stdout
    assert "### beauty" in found.stdout and "### toys" not in found.stdout
    assert "### toys" in (tmp_path / "reports/published.md").read_text(), "the file holds every table"
    found = report("--claims", "hellm")
    assert found.returncode == 0 and "HeLLM\\_pre beats LightGCN on Beauty" in found.stdout
    assert "**reproduced**" in found.stdout and "GAL-Rec" not in found.stdout
    assert "GAL-Rec" in (tmp_path / "reports/claims.md").read_text()


def test_top_lists_are_exported(store, report, tmp_path, add):
    run = read_stores([add().parents[2]]).runs[0]
    topk = pd.DataFrame({"user": ["u1", "u2"], "items|train": ["b a", ""], "items|none": ["a b", "c"]})
    record = run.record.model_copy(update={"key": "feed0000feed0000"})
    RunStore(store).write(record, run.per_user(), topk)
    found = report("--lists", "feed0000", "--to", "out.csv")
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "out.csv").read_text() == "user,item,rank\nu1,b,1\nu1,a,2\n"
    assert report("--lists", "feed", "--mask", "none").returncode == 0
    assert (tmp_path / "lists-beauty-HeLLM-feed0000feed0000-none.csv").read_text().count("\n") == 4
    assert report("--lists", run.record.key).returncode == 2, "no lists in that run"
    found = report("--lists", "dead")
    assert found.returncode == 2 and "0 runs have such a key (none)" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dataset", "beaty"], "Did you mean 'beauty'?"),
        (["--paired", "HeLLM"], "two different names"),
        (["--paired", "HeLLM,Pop"], "no row 'Pop'"),
        (["--paired", "HeLLM,HeLM"], "no row 'HeLM'. Did you mean 'HeLLM'?"),
        (["--preset", "fast"], "no preset 'fast'"),
        (["--expect", "SASRecc@seq"], "no model 'SASRecc@seq'. Did you mean 'SASRec'?"),
        (["--published", "helm"], "no published table 'helm'"),
        (["--claims", "nobody"], "no ledger of claims 'nobody'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(add, report, tmp_path, arguments, told):
    add()
    found = report(*arguments)
    assert found.returncode == 2 and told in found.stderr
    assert "Traceback" not in found.stderr and len(found.stderr.strip().splitlines()) == 1


def test_an_empty_store_says_so(report, tmp_path):
    found = report()
    assert found.returncode == 0 and "No finished runs here yet" in found.stdout
    assert "No finished runs yet" in (tmp_path / "reports/README.md").read_text()
    asked = report("--dataset", "toys", "--expect", "HeLLM")
    assert "--model=HeLLM --dataset=toys --preset=standard" in asked.stdout


def test_from_a_shell_it_answers_and_refuses(tmp_path):
    command = [sys.executable, COMMAND, "--paired", "HeLLM"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert found.returncode == 2 and found.stderr.startswith("error: --paired needs") and not found.stdout


def test_neither_torch_nor_recbole_is_imported(tmp_path):
    code = "import runpy, sys\ntry:\n runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    code += (
        "except SystemExit as end:\n print(end.code, {'torch', 'recbole', 'scipy', 'ray'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, COMMAND]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert found.stdout.splitlines()[-1] == "0 set()", found.stderr


def test_text_for_other_commands(add, store, tmp_path):
    add()
    add(preset="quick", dataset="ml-100k")
    assert "# beauty" in boards_text([store]) and "# ml-100k" in boards_text([store])
    text = boards_text(
        [store, tmp_path / "none"], datasets=["ml-100k"], expect=["HeLLM", "Pop"], preset="quick"
    )
    assert "# beauty" not in text and "--model=Pop --dataset=ml-100k --preset=quick" in text
    assert "mask none" in boards_text([store], masks=["none"])
    assert "Nothing was run here yet" in boards_text([tmp_path / "none"], datasets=["toys"], expect=["HeLLM"])
    assert boards_text([tmp_path / "none"]) == "No finished runs here yet."


def test_choosing_tables(add, store):
    add()
    add(dataset="yelp", mask="none", preset="quick")
    boards, _ = read_boards([store])
    assert len(boards) == 4
    assert [(b.dataset, b.mask) for b in selected(boards)] == [("beauty", "train"), ("yelp", "none")]
    assert {b.dataset for b in choose(boards, presets=["quick"])} == {"yelp"}
    assert len(choose(boards, datasets=["beauty"], masks=["none"])) == 1


def test_a_store_and_its_published_copy_give_the_same_pages(add, store, tmp_path):
    for seed in (1, 2):
        publish(add(seed=seed), tmp_path / "reports/runs")
    pages = []
    for roots in ([store, tmp_path / "reports/runs"], [tmp_path / "reports/runs"]):
        boards, stored = read_boards(roots)
        write_reports(boards, stored, tmp_path / "reports")
        pages.append({n: c for n, c in contents(tmp_path / "reports").items() if n.endswith(".md")})
    assert pages[0] == pages[1]


@pytest.mark.slow
def test_two_thousand_runs_are_read_and_rendered_in_twenty_seconds(store, add):
    base = read_stores([add(users=22_363).parents[2]]).runs[0]
    users = base.per_user()
    writer = RunStore(store)
    for number in range(2_000):
        changes = {"key": f"{number:016x}", "model": f"Model{number % 40}", "seed": number // 40}
        changes["dataset"] = ("beauty", "sports", "toys", "yelp")[number % 4]
        writer.write(base.record.model_copy(update=changes), users)
    start = time.process_time()
    stored = read_stores([store])
    boards = leaderboards(runs_frame(stored.runs))
    pages = [dataset_page(name, boards).text for name in ("beauty", "sports", "toys", "yelp")]
    seconds = time.process_time() - start
    assert len(stored.runs) == 2_001 and isinstance(stored.runs[0], StoredRun)
    assert sum(len(page) for page in pages) > 100_000
    assert seconds < 20, f"{seconds:.1f} s"

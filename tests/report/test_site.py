"""The site: complete, closed in itself, the same every time, and deaf to markup in names."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from recbole_llmgraph.report.against import beside
from recbole_llmgraph.report.boards import read_boards
from recbole_llmgraph.report.charts import Point, chart
from recbole_llmgraph.report.claims import choose_ledgers, judge
from recbole_llmgraph.report.site import TEMPLATES, Content, write_site
from recbole_llmgraph.store.record import Code, Stage
from recbole_llmgraph.store.runs import RunStore, read_stores

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"' onfocus=alert(3) &lt;b&gt; {{ 7 * 7 }}"
)
VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Tags, links and text of a page; complains about tags that do not close."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


def content(*roots: Path) -> Content:
    boards, stored = read_boards(roots)
    ruled = [(ledger, judge(ledger, boards)) for ledger in choose_ledgers([])]
    return Content(boards, stored, beside(boards), ruled)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def site(store: Path, tmp_path: Path) -> Callable[[], Path]:
    """Function: write the site of the store."""

    def write() -> Path:
        write_site(content(store), tmp_path / "site")
        return tmp_path / "site"

    return write


def test_every_number_leads_to_its_run_and_every_link_leads_somewhere(add, site) -> None:
    for seed in (1, 2):
        add(
            "HeLLM",
            seed=seed,
            hit=0.5,
            backbone="builtin:llama-mini",
            stages=[Stage(model="SASRec", key="c0ffee")],
        )
    add("SASRec", key="c0ffee", settings={})
    add("SASRec", dataset="sports", settings={})
    out = site()
    index = Page(out / "index.html")
    assert len(list((out / "runs").glob("*.html"))) == 4
    for path in out.rglob("*.html"):
        for link in Page(path).links:
            target, _, anchor = link.partition("#")
            if target:
                assert (path.parent / unquote(target)).is_file(), link
            elif anchor:
                assert anchor in Page(path).ids, link
    html = (out / "index.html").read_text()
    (row,) = re.findall(r'<tr data-backbone="builtin:llama-mini".*?</tr>', html, re.DOTALL)[:1]
    values = re.findall(r'href="(runs/[^"]+)"', row)
    assert len(values) > 10 and len(set(values)) == 2, "every cell, and both seeds"
    run = Page(next((out / "runs").glob("beauty-HeLLM-*.html")))
    assert "the same with: seed" in run.text and "stands on: SASRec c0ffee" in run.text
    assert "python benchmarks/run.py --model=HeLLM --dataset=beauty" in run.text
    assert "published and measured" in index.text and "not run (0 of" in index.text


def test_pages_need_nothing_but_themselves(add, site) -> None:
    add()
    for path in site().rglob("*.html"):
        page, text = Page(path), path.read_text(encoding="utf-8")
        assert not {"link", "iframe", "object", "base"} & set(page.tags)
        assert not [link for link in page.links if ":" in link]
        assert "@import" not in text and "url(" not in text and "fetch(" not in text
        assert (
            '<meta name="viewport"' in text and "prefers-color-scheme" in text and '<html lang="en">' in text
        )


def test_hostile_text_stays_text(add, site, store: Path) -> None:
    changes = {"variant": HOSTILE, "notes": [HOSTILE], "settings": {"instruction": HOSTILE, "tau": 0.5}}
    add("A<b>B", backbone=HOSTILE, text_encoder=HOSTILE, **changes)
    add(
        "A<b>B",
        hit=0.5,
        code=Code(version=HOSTILE, commit=HOSTILE),
        environment={"cpu": HOSTILE},
        variant=HOSTILE,
    )
    add(dataset='d"><script>', protocol=HOSTILE, preset=HOSTILE, split_fingerprint=HOSTILE)
    bad = add("Broken")
    (bad / "run.json").write_text(json.dumps({"schema_version": HOSTILE}))
    out = site()
    own = {"index.html": 1}
    for path in out.rglob("*.html"):
        page = Page(path)
        assert page.tags.count("script") == own.get(path.name, 0)
        assert "img" not in page.tags and "b" not in page.tags
        assert not [name for name in page.attributes if name.startswith("on")]
        assert "49" not in re.findall(r"&lt;b&gt; (\S+)", page.text)
    assert HOSTILE in Page(out / "index.html").text
    run = next(
        path for path in (out / "runs").glob("beauty-A_b_B-*.html") if "instruction" in path.read_text()
    )
    assert Page(run).text.count(HOSTILE) >= 4


def test_the_same_runs_give_the_same_bytes_and_lost_runs_lose_their_page(add, site, store: Path) -> None:
    add()
    gone = add("SASRec")
    out = site()
    first = files(out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.html")}
    (out / "runs" / "mine.html").write_text("<p>not made here</p>")
    assert files(site()) == {**first, "runs/mine.html": b"<p>not made here</p>"}
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    shutil.rmtree(gone)
    left = files(site())
    assert len([name for name in left if name.startswith("runs/beauty")]) == 1 and "runs/mine.html" in left
    assert not [name for name in left if Path(name).name.startswith(".")]


def test_an_empty_store_has_a_site(site) -> None:
    assert "0 finished runs" in Page(site() / "index.html").text


def test_problems_reasons_and_contamination_are_told(add, site) -> None:
    add()
    add(preset="quick")
    (add("Cut") / "run.json").write_text("{")
    text = Page(site() / "index.html").text
    assert "because they differ in mask and preset" in text
    assert "Contamination:" in text and "beauty/Cut/" in text and "cut short or no JSON" in text


def test_a_run_with_its_log_shows_what_it_learned(add, site) -> None:
    add("SASRec")
    folder = add()
    rows = ["select train,1,0.9,2,0.011", "select train,2,0.8,2,", "train,1,0.7,2,", "train,2,nan,2,0.012"]
    (folder / "epochs.csv").write_text("\n".join(["phase,epoch,loss,seconds,valid", *rows]))
    texts = {path.name: path.read_text() for path in (site() / "runs").iterdir()}
    with_log, without = (
        next(texts[name] for name in texts if model in name) for model in ("HeLLM", "SASRec")
    )
    assert without.count("<svg") == 0 and with_log.count("<svg") == 2
    assert "training loss by epoch" in with_log and "select train 2: 0.8 at 2" in with_log
    assert "validation by epoch" in with_log and "train 2: 0.0120 at 4" in with_log


def test_a_chart_stands_inside_its_frame_and_names_do_not_meet() -> None:
    points = [Point(10.0**i, 0.1 * (i % 3), f"model {i}", "#") for i in range(9)]
    made = chart(points, "t", ("x", "y"), log_x=True)
    assert made is not None and len(made.points) == 9
    boxes = []
    for point in made.points:
        assert made.left <= point["x"] <= made.right and made.top <= point["y"] <= made.bottom
        if point["label"]:
            width = 6.3 * len(point["label"])
            left = point["label_x"] - (width if point["anchor"] == "end" else 0)
            boxes.append((left, left + width, point["y"]))
    assert boxes
    for i, a in enumerate(boxes):
        assert not [b for b in boxes[:i] if a[0] < b[1] and b[0] < a[1] and abs(a[2] - b[2]) < 11]
    assert chart(points[:1], "t", ("x", "y")) is None
    assert chart([Point(-1, 1, "a", ""), Point(0, 2, "b", "")], "t", ("x", "y"), log_x=True) is None
    line = chart([Point(i, 1.0, str(i), "") for i in (1, 2, 3)], "t", ("x", "y"), lines=True)
    assert line is not None and [tick["text"] for tick in line.xticks] == ["1", "2", "3"]


def test_a_setting_with_several_values_has_a_line(add, site) -> None:
    for tau in (0.1, 0.3, 0.5):
        add(settings={"tau": tau, "deep": True}, variant=f"tau={tau}")
    assert "HeLLM: N@10 by tau" in Page(site() / "index.html").text


# --- the script ----------------------------------------------------------------------

SCRIPT_TESTS = """
const assert = require("assert");
const { compareCells, passes, readAddress, writeAddress } = require(process.argv[2]);
const sorted = (cells, down) => [...cells].sort((a, b) => compareCells(a, b, down));
assert.deepStrictEqual(sorted(["0.5", "", "0.12", "10"], false), ["0.12", "0.5", "10", ""]);
assert.deepStrictEqual(sorted(["0.5", "", "0.12", "10"], true), ["10", "0.5", "0.12", ""]);
assert.deepStrictEqual(sorted(["b", "A", "c", ""], false), ["A", "b", "c", ""]);
const board = { dataset: "beauty", mask: "train", selected: "1", search: "hellm builtin:x" };
assert(passes(board, { dataset: "", mask: "selected", search: "" }));
assert(!passes({ ...board, selected: "0" }, { mask: "selected" }));
assert(!passes(board, { dataset: "sports" }) && passes(board, { mask: "train", other: "x" }));
assert(passes(board, { search: "BUILTIN hel" }) && !passes(board, { search: "hel no" }));
const usual = { mask: "selected", dataset: "" };
const asked = { mask: "none", dataset: "a b&c" };
const read = readAddress(writeAddress(asked, usual) + "&x=1", ["mask", "dataset"]);
assert.deepStrictEqual({ ...read }, asked);
assert.strictEqual(writeAddress({ mask: "selected", dataset: "" }, usual), "");
"""


def test_sorting_filters_and_address(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to run the page's script with")
    script = shutil.copy(TEMPLATES / "board.js", tmp_path / "board.js")
    (tmp_path / "test.js").write_text(SCRIPT_TESTS)
    done = subprocess.run(
        [node, str(tmp_path / "test.js"), str(script)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_thousand_runs_make_a_site_in_twenty_seconds(store: Path, add, tmp_path: Path) -> None:
    base = read_stores([add(users=22_363).parents[2]]).runs[0]
    users, writer = base.per_user(), RunStore(store)
    for number in range(2_000):
        dataset, model, tau, seed = np.unravel_index(number, (4, 50, 5, 2))
        changes = {"key": f"{number:016x}", "model": f"Model{model}", "seed": int(seed)}
        changes |= {"settings": {"tau": tau / 10}, "variant": f"tau={tau / 10}"}
        changes["dataset"] = ("beauty", "sports", "toys", "yelp")[dataset]
        writer.write(base.record.model_copy(update=changes), users)
    start = time.process_time()
    write_site(content(store), tmp_path / "site")
    seconds = time.process_time() - start
    assert len(list((tmp_path / "site/runs").glob("*.html"))) == 2_001
    assert seconds < 20, f"{seconds:.1f} s"

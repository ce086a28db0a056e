"""The site in headless Chromium: sorting, filtering, opening a run, keyboard, phone, dark, and no errors.

A copy of the page gets a probe, a script that does what a person would and writes what it saw as JSON.
"""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.report.boards import read_boards
from recbole_llmgraph.report.site import Content, write_site

pytestmark = pytest.mark.slow
HOSTILE = "</script><img src=x onerror=\"document.title='hacked'\">"
LISTEN = """<script>window.seen = [];
addEventListener("error", (event) => seen.push(String(event.message)));
const loud = console.error;
console.error = (...told) => { seen.push(told.join(" ")); loud(...told); };</script>"""
ANSWER = """<script>addEventListener("load", () => setTimeout(async () => {
  let told; try { told = await (async () => { %s })(); } catch (error) { told = { failed: String(error) }; }
  const place = document.createElement("pre"); place.id = "probe";
  place.textContent = JSON.stringify({ ...told, errors: seen }); document.body.append(place);
}, 100));</script>"""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's command."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium here; Debian: apt-get install chromium")


@pytest.fixture
def browse(chromium: str) -> Callable[..., dict[str, Any]]:
    """Function: page, what to do there (JavaScript that returns an object), width, dark -> what it saw."""

    def visit(
        page: Path, probe: str, *, width: int = 1200, dark: bool = False, hash: str = ""
    ) -> dict[str, Any]:
        text = page.read_text(encoding="utf-8")
        copy = page.with_name(f"probed-{page.name}")
        text = text.replace("<style>", LISTEN + "<style>", 1)
        copy.write_text(text.replace("</body>", ANSWER % probe + "</body>"), encoding="utf-8")
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
        command += ["--virtual-time-budget=8000", "--dump-dom", "--allow-file-access-from-files"]
        command += ["--blink-settings=preferredColorScheme=0"] if dark else []
        done = subprocess.run([*command, copy.as_uri() + hash], capture_output=True, text=True, timeout=120)
        copy.unlink()
        found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stderr[-2000:]
        told: dict[str, Any] = json.loads(html.unescape(found[1]))
        assert told.pop("errors") == [] and "failed" not in told, told
        return told

    return visit


@pytest.fixture
def index(store: Path, add, tmp_path: Path) -> Path:
    """A site of two datasets; on beauty five models, one of a hostile name."""
    for place, model in enumerate(("Alpha", "Beta", "Gamma")):
        add(
            model,
            hit=0.2 + 0.2 * place,
            parameters=None if model == "Beta" else {"total": 10**place, "trained": 1},
        )
    add("HeLLM", hit=0.7, backbone="builtin:llama-mini")
    add("Evil", hit=0.1, variant=HOSTILE, notes=[HOSTILE])
    add("Alpha", dataset="sports")
    boards, stored = read_boards([store])
    write_site(Content(boards, stored), tmp_path / "site")
    return tmp_path / "site" / "index.html"


NAMES = """const names = () => Array.from(
  document.querySelectorAll("section.board:not([hidden]) tbody tr[data-search]:not([hidden]) th"),
  (cell) => cell.textContent);
const board = document.querySelector("section.board:not([hidden])");
const buttons = Array.from(board.querySelectorAll("th button"));
const header = (title) => buttons.find((button) => button.textContent === title);
const choose = (name, value) => {
  const input = document.querySelector(`[name=${name}]`);
  if (input.type === "checkbox") { input.checked = value; } else { input.value = value; }
  input.dispatchEvent(new Event("input", { bubbles: true }));
};
"""


def test_a_click_sorts_and_a_second_turns_it_around(browse, index: Path) -> None:
    told = browse(
        index,
        NAMES
        + """const first = names().slice(0, 5);
        header("N@10").click(); header("N@10").click();
        const up = names().slice(0, 5);
        header("model").click();
        const letters = names().slice(0, 4), sort = header("model").closest("th").getAttribute("aria-sort");
        header("parameters").click();
        const down = names().slice(0, 5), old = header("model").closest("th").getAttribute("aria-sort");
        return { first, up, letters, sort, down, old };""",
    )
    assert told["up"] == told["first"][::-1] and told["first"][0] == "HeLLM"
    assert told["letters"][:2] == ["Alpha", "Beta"] and told["sort"] == "ascending" and told["old"] is None
    assert told["down"][-1] == "Beta", "what is missing stands last"


def test_filters_hide_rows_and_the_address_remembers(browse, index: Path) -> None:
    told = browse(
        index,
        NAMES
        + """const every = names().length;
        choose("dataset", "sports"); const sports = names(), address = location.hash;
        choose("dataset", ""); choose("search", "gam"); const found = names();
        choose("search", ""); choose("backbone", "builtin:llama-mini"); const backed = names();
        choose("backbone", ""); choose("mask", ""); const both = names().length;
        choose("search", "nobody"); const none = names().length;
        const sections = document.querySelectorAll("section.dataset:not([hidden])").length;
        const line = document.querySelector("[aria-live]").textContent;
        document.querySelector("button[type=reset]").click();
        await new Promise((go) => setTimeout(go, 50));
        const again = names().length;
        return { every, sports, address, found, backed, both, none, sections, line, again };""",
    )
    assert told["every"] == 6 and told["again"] == 6 and told["both"] == 12
    assert told["sports"] == ["Alpha"] and told["address"] == "#dataset=sports"
    assert told["found"] == ["Gamma"] and told["backed"] == ["HeLLM"]
    assert told["none"] == 0 and told["sections"] == 0 and told["line"] == "0 rows in 0 tables"


def test_an_address_with_filters_is_taken_up(browse, index: Path) -> None:
    assert browse(index, NAMES + "return { names: names() };", hash="#dataset=sports&mask=none")["names"] == [
        "Alpha"
    ]


def test_the_keyboard_reaches_everything(browse, index: Path) -> None:
    told = browse(
        index,
        NAMES
        + """document.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true }));
        const search = document.activeElement.name;
        header("N@20").focus(); const button = document.activeElement === header("N@20");
        const link = board.querySelector("tbody td a"); link.focus();
        const table = board.querySelector(".scroll"); const reached = document.activeElement === link;
        table.focus();
        return { search, button, reached, scrolled: document.activeElement === table };""",
    )
    assert told == {"search": "search", "button": True, "reached": True, "scrolled": True}


def test_a_run_opens_from_its_row(browse, index: Path) -> None:
    href = browse(index, NAMES + 'return { href: board.querySelector("tbody td a").getAttribute("href") };')[
        "href"
    ]
    told = browse(
        index.parent / href,
        """const title = document.querySelector("h1").textContent;
        return { title, back: document.links[0].getAttribute("href") };""",
    )
    assert told == {"title": "HeLLM on beauty, seed 1", "back": "../index.html"}


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_but_tables_is_wider_than_the_screen(browse, index: Path, width: int) -> None:
    for page in (index, next((index.parent / "runs").glob("*.html"))):
        probe = """const root = document.documentElement;
        return { page: root.scrollWidth, screen: root.clientWidth };"""
        told = browse(page, probe, width=width)
        assert told["page"] <= told["screen"]


def test_light_and_dark_have_their_colours(browse, index: Path) -> None:
    probe = """const style = getComputedStyle(document.body);
    return { back: style.backgroundColor, ink: style.color };"""
    light, dark = browse(index, probe), browse(index, probe, dark=True)

    def brightness(colour: str) -> int:
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    assert brightness(light["back"]) > 600 > brightness(light["ink"])
    assert brightness(dark["back"]) < 200 < brightness(dark["ink"])


def test_hostile_names_are_shown_and_do_nothing(browse, index: Path) -> None:
    told = browse(
        index,
        NAMES
        + """const shown = names().some((name) => name.includes("<img src=x"));
        return { shown, title: document.title, images: document.images.length };""",
    )
    assert told == {"shown": True, "title": "Leaderboards", "images": 0}


def test_a_page_of_thousands_of_rows_filters_at_once(browse, index: Path) -> None:
    told = browse(
        index,
        NAMES
        + """const body = board.querySelector("tbody"), row = body.rows[0];
        for (let i = 0; i < 4000; i += 1) {
          const twin = row.cloneNode(true); twin.dataset.search = "row " + i; body.append(twin);
        }
        const start = performance.now(); choose("search", "row 399"); document.body.offsetHeight;
        return { shown: names().length, time: performance.now() - start };""",
    )
    assert told["shown"] == 14 and told["time"] < 1_000

"""Figures: they show what the trials say, are the same bytes every time, and tell colours apart."""

import importlib.util
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from recbole_llmgraph.report.figures import COLOURS, HEAT, MADE, PART, metric_name, plain_ticks, save, style
from recbole_llmgraph.report.figures_search import costs, front, history, importance, pareto
from recbole_llmgraph.report.figures_sweep import curve, curves, heat_maps, surface
from recbole_llmgraph.report.sweep_page import saved_seconds, sweep_text, write_sweep
from recbole_llmgraph.store.sweeps import Sweep, read_sweep

ROOT = Path(__file__).resolve().parents[2]
DEMO = Path(__file__).parent / "demo"
NAMES = ("galrec-figure-5", "hellm-figure-3", "hellm-figure-4", "search")


def demo(name: str) -> Sweep:
    return read_sweep(DEMO / name)


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_demo", DEMO / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_demo_is_made_and_says_so(maker: ModuleType, tmp_path: Path) -> None:
    assert {path.parent.name for path in DEMO.glob("*/sweep.json")} == set(NAMES)
    for sweep in maker.sweeps():
        path = sweep.write(tmp_path / sweep.name)
        assert path.read_bytes() == (DEMO / sweep.name / "sweep.json").read_bytes()
        assert sweep.made and "Made data" in sweep_text(sweep)


# -- what is drawn -------------------------------------------------------------------------


def seeded(values: dict[float, list[float]]) -> pd.DataFrame:
    rows = [(tick, seed, v) for tick, found in values.items() for seed, v in enumerate(found)]
    return pd.DataFrame(rows, columns=["tau", "seed", "ndcg@20"])


def test_a_curve_is_the_mean_with_its_interval_over_seeds() -> None:
    found = curve(seeded({0.5: [0.1, 0.2, 0.6], 0.1: [0.3, 0.3, 0.3]}), "tau", "ndcg@20")
    assert list(found["tick"]) == [0.1, 0.5] and list(found["seeds"]) == [3, 3]
    half = 4.302652729911275 * np.std([0.1, 0.2, 0.6], ddof=1) / np.sqrt(3)  # Student's t, 2 degrees
    assert found["mean"].iloc[1] == pytest.approx(0.3)
    assert (found["low"].iloc[1], found["high"].iloc[1]) == pytest.approx((0.3 - half, 0.3 + half))
    assert (found["low"].iloc[0], found["high"].iloc[0]) == pytest.approx((0.3, 0.3))


def test_one_seed_has_no_band_and_a_tick_without_trials_no_place() -> None:
    found = curve(seeded({0.1: [0.3], 0.5: [float("nan")]}), "tau", "ndcg@20")
    assert list(found["tick"]) == [0.1] and found["low"].isna().all()


def test_names_keep_their_order() -> None:
    frame = pd.DataFrame({"source": ["text", "lightgcn"], "ndcg@20": [0.1, 0.2]})
    assert list(curve(frame, "source", "ndcg@20")["tick"]) == ["text", "lightgcn"]


@pytest.mark.parametrize(("name", "shape"), [("galrec-figure-5", (1, 3)), ("hellm-figure-3", (2, 3))])
def test_curves_have_the_papers_layout_and_the_trials_means(name: str, shape: tuple[int, int]) -> None:
    sweep = demo(name)
    with style():
        figure = curves(sweep)
    assert figure is not None
    left = figure.axes[: shape[0] * shape[1]]
    titles = [axes.get_title() for axes in left]
    assert len(titles) == len(sweep.panels) * len(sweep.datasets) and titles[0].startswith("(a) ")
    pairs = [(panel[0], dataset) for panel in sweep.panels for dataset in sweep.datasets]
    for (axis, dataset), axes in zip(pairs, left, strict=True):
        told: dict[Any, list[float]] = {}
        for trial in sweep.trials:
            if list(trial.point) == [axis] and trial.dataset == dataset:
                told.setdefault(trial.point[axis], []).append(trial.valid["train"]["recall@20"])
        drawn = axes.lines[0]
        assert list(drawn.get_xdata()) == sorted(told)
        assert drawn.get_ydata() == pytest.approx([np.mean(told[tick]) for tick in sorted(told)])
        assert axes.get_ylabel() == "Recall@20"
    assert PART in figure.get_suptitle() and MADE in figure.get_suptitle()


def test_noise_is_not_drawn_as_a_slope() -> None:
    sweep = demo("galrec-figure-5")

    def heights(squeeze: float) -> list[float]:
        trials = []
        for trial in sweep.trials:
            means = {name: 0.05 + squeeze * value for name, value in trial.valid["train"].items()}
            trials.append(trial.model_copy(update={"valid": {"train": means}}))
        with style():
            figure = curves(sweep.model_copy(update={"trials": trials}))
        assert figure is not None
        ranges = [axes.get_ylim() for axes in figure.axes]
        return [(high - low) / high for low, high in ranges]

    assert all(0.09 < height < 0.11 for height in heights(1e-4))
    assert max(heights(1.0)) > 0.2  # what moves is shown as it was


@pytest.mark.parametrize(
    ("ticks", "scale"),
    [
        ([0.1, 0.3, 0.5, 0.7, 1.0], "linear"),
        ([1, 5, 10, 15, 20, 25, 30], "linear"),  # on a log scale its last labels would touch
        ([0.0, 0.1, 0.9], "linear"),
        ([128, 256, 512, 1024, 2048], "log"),
        ([0.001, 0.003, 0.01], "log"),
    ],
)
def test_ticks_that_grow_by_factors_stand_on_a_log_scale(ticks: list[float], scale: str) -> None:
    axes = Figure().subplots()
    assert plain_ticks(axes, ticks) == ticks
    assert axes.get_xscale() == scale
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"{tick:g}" for tick in ticks]


@pytest.mark.parametrize("name", sorted(folder.parent.name for folder in DEMO.glob("*/sweep.json")))
def test_titles_fit_their_figures(name: str) -> None:
    """The longest ones, which say that the data are invented."""
    sweep = read_sweep(DEMO / name)
    with style():
        drawn = [curves(sweep), importance(sweep), pareto(sweep)]
        drawn += [history(sweep)] if sweep.purpose == "tune" else []
        for figure in filter(None, drawn):
            box = figure._suptitle.get_window_extent(FigureCanvasAgg(figure).get_renderer())
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_a_heat_map_puts_every_value_in_its_place() -> None:
    sweep = demo("hellm-figure-4")
    frame = sweep.frame()
    found = surface(frame[frame["dataset"] == "toys"], "alpha", "beta", "recall@20")
    assert list(found.index) == list(found.columns) == [0.0, 0.1, 0.3, 0.5, 0.7, 0.9]
    for trial in sweep.trials:
        if trial.dataset == "toys":
            value = found.loc[trial.point["alpha"], trial.point["beta"]]  # type: ignore[index]
            assert value == trial.valid["train"]["recall@20"]
    with style():
        figure = heat_maps(sweep, "recall@20")
    assert figure is not None
    first = figure.axes[0]
    assert first.get_xlabel() == "beta" and first.get_ylabel() == "alpha"
    assert np.asarray(first.images[0].get_array()).shape == (6, 6) and len(first.texts) == 36
    assert PART in figure.get_suptitle()


def test_what_a_sweep_has_no_data_for_is_not_drawn() -> None:
    with style():
        assert curves(demo("hellm-figure-4")) is None and heat_maps(demo("galrec-figure-5"), "x") is None
        assert importance(demo("galrec-figure-5")) is None
        assert history(demo("search").model_copy(update={"trials": []})) is None
        assert pareto(demo("search").model_copy(update={"trials": []})) is None


points = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12)


@given(points)
def test_the_front_is_what_no_other_beats(found: list[tuple[int, int]]) -> None:
    cost, score = [float(c) for c, _ in found], [float(s) for _, s in found]
    kept = {(cost[place], score[place]) for place in front(cost, score)}
    unbeaten = {
        (c, s) for c, s in zip(cost, score, strict=True)
        if not any((a <= c and b >= s and (a, b) != (c, s)) for a, b in zip(cost, score, strict=True))
    }  # fmt: skip
    assert kept == unbeaten
    assert sorted(kept) == [(cost[place], score[place]) for place in front(cost, score)]


def test_cost_is_the_mean_over_seeds_of_finished_trials() -> None:
    sweep = demo("galrec-figure-5")
    found = costs(sweep, "recall@20").set_index("point")
    own = [trial for trial in sweep.trials if trial.point == {"tau": 0.05}]
    assert len(own) == 3
    assert found.loc["tau=0.05", "seconds"] == pytest.approx(np.mean([trial.seconds for trial in own]))
    pruned = [t for t in demo("search").trials if t.status == "pruned"]
    assert len(costs(demo("search"), "ndcg@20")) == len(demo("search").trials) - len(pruned)


# -- how it is written ---------------------------------------------------------------------

DRAW = """
import sys
from pathlib import Path
from recbole_llmgraph.report.sweep_page import write_sweep
from recbole_llmgraph.store.sweeps import read_sweep
write_sweep(read_sweep(Path(sys.argv[1])), Path(sys.argv[2]))
"""
COMMAND = """
import sys
from recbole_llmgraph.suite.sweep.command import sweep_command
sys.exit(sweep_command("", ["--demo", "--out", sys.argv[1]]))
"""


def test_another_process_draws_the_same_bytes(tmp_path: Path) -> None:
    """With another hash seed, and a user's own idea of how figures look."""
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: pink\nfont.size: 20\n")
    here = write_sweep(demo("search"), tmp_path / "here")
    subprocess.run(
        [sys.executable, "-c", DRAW, str(DEMO / "search"), str(tmp_path / "there")], check=True, timeout=300,
        env={**os.environ, "PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path)},
    )  # fmt: skip
    assert {path.suffix for path in here} == {".md", ".pdf", ".png"} and len(here) == 7
    for path in here:
        data = path.read_bytes()
        assert data == (tmp_path / "there" / path.name).read_bytes(), path.name
        assert b"CreationDate" not in data and str(tmp_path).encode() not in data


@pytest.mark.slow
def test_the_demo_command_writes_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    for name in ("one", "two"):
        subprocess.run(
            [sys.executable, "-c", COMMAND, str(tmp_path / name)], cwd=ROOT, check=True, timeout=600,
            env={**os.environ, "PYTHONHASHSEED": {"one": "1", "two": "2"}[name]}, capture_output=True,
        )  # fmt: skip
    one, two = (
        {str(p.relative_to(tmp_path / n)): p.read_bytes() for p in (tmp_path / n).rglob("*.*")}
        for n in ("one", "two")
    )
    assert one.keys() == two.keys() and [name for name in one if one[name] != two[name]] == []
    kinds = {Path(name).suffix for name in one}
    assert kinds == {".md", ".pdf", ".png"}
    assert {f"{name}/README.md" for name in NAMES} <= one.keys()
    for name in ("search/history.png", "search/importance.pdf", "hellm-figure-4/heat.pdf",
                 "hellm-figure-3/curves.pdf", "search/pareto.png"):  # fmt: skip
        assert len(one[name]) > 2_000
    assert not any(b"CreationDate" in data or str(tmp_path).encode() in data for data in one.values())


def test_figures_that_a_sweep_no_longer_has_are_removed(tmp_path: Path) -> None:
    write_sweep(demo("search"), tmp_path)
    assert (tmp_path / "importance.png").is_file()
    write_sweep(demo("search").model_copy(update={"importance": {}}), tmp_path)
    assert not (tmp_path / "importance.png").exists() and (tmp_path / "history.png").is_file()
    assert "importance" not in (tmp_path / "README.md").read_text()


def test_a_figure_with_hostile_names_is_still_a_figure(tmp_path: Path) -> None:
    """Axis names and values come from a user's own model; `$` and `_` must not start mathematics."""
    sweep = demo("hellm-figure-3")
    nasty = "a$b_{c}^$ <script>|x|"
    trials = [t.model_copy(update={"point": {nasty: "$x^{$"}}) for t in sweep.trials[:3]]
    hostile = sweep.model_copy(
        update={
            "panels": [[nasty]],
            "ticks": {nasty: ["$x^{$"]},
            "base": {},
            "trials": trials,
            "model": "$_{$",
        }
    )
    assert write_sweep(hostile, tmp_path)
    assert "<script>" not in (tmp_path / "README.md").read_text()


# Machado, Oliveira and Fernandes 2009, severity 1: what linear RGB becomes to each eye.
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3).tolist(),
}  # fmt: skip


def lab(colour: str, eye: str) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as an eye sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(BLIND[eye]) @ linear, 0, 1)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ seen / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eye", BLIND)
def test_colours_differ_to_every_eye(eye: str) -> None:
    """A just noticeable difference is about 2.3; the pairs used in one panel differ by far more."""
    first_pair = float(np.linalg.norm(lab(COLOURS[0], eye) - lab(COLOURS[1], eye)))
    assert first_pair > 40
    assert min(np.linalg.norm(lab(a, eye) - lab(b, eye)) for a, b in combinations(COLOURS, 2)) > 8


@pytest.mark.parametrize("eye", BLIND)
def test_heat_grows_lighter_to_every_eye(eye: str) -> None:
    shades = [colormaps[HEAT](x) for x in np.linspace(0, 1, 20)]
    lightness = [lab("#" + "".join(f"{round(255 * c):02x}" for c in shade[:3]), eye)[0] for shade in shades]
    assert (np.diff(lightness) > 0).all()


# -- the page ------------------------------------------------------------------------------


def test_the_page_of_a_search_tells_what_was_pruned_saved_and_chosen() -> None:
    sweep = demo("search")
    pruned = [trial for trial in sweep.trials if trial.status == "pruned"]
    saved = sum((9 - t.epochs_run) * t.seconds / t.epochs_run for t in pruned)
    assert saved_seconds(sweep.trials) == pytest.approx(saved) and saved > 0
    text = sweep_text(sweep)
    assert f"14 settings: {14 - len(pruned)} trained to the end, {len(pruned)} pruned" in text
    assert f"about {saved:,.0f} s more" in text
    best = max(t.score for t in sweep.trials if t.score)
    assert f"Chosen on validation: `learning_rate=0.00176, n_layers=2`, ndcg@20 {best:.4f}" in text
    assert "Its **test** part, opened for this setting alone (1 seed): ndcg@20 0.0317" in text
    rows = [line for line in text.splitlines() if line.startswith("|") and "finished" in line]
    assert len(rows) == 14 - len(pruned) and f"{best:.4f}" in rows[0]  # best first


def test_the_page_of_a_figure_has_a_row_a_tick_and_an_interval_over_seeds() -> None:
    sweep = demo("galrec-figure-5")
    text = sweep_text(sweep, ["curves.png"])
    assert text.count("3 finished") == 4 + 5 + 5
    own = [t.valid["train"]["recall@20"] for t in sweep.trials if t.point == {"tau": 0.05}]
    half = 4.302652729911275 * np.std(own, ddof=1) / np.sqrt(3)
    assert f"{np.mean(own):.4f} ± {half:.4f}" in text
    assert "the test part was not opened" in text and "![Metric against axis](curves.png)" in text


def test_metric_names_read_as_in_papers() -> None:
    assert [metric_name(m) for m in ("recall@20", "ndcg@10", "mrr@5", "precision@5")] == [
        "Recall@20", "NDCG@10", "MRR@5", "Precision@5"
    ]  # fmt: skip


def test_both_files_of_a_figure_are_whole(tmp_path: Path) -> None:
    with style():
        figure = importance(demo("search"))
        assert figure is not None
        pdf, png = save(figure, tmp_path / "x")
    assert pdf.read_bytes().startswith(b"%PDF") and pdf.read_bytes().rstrip().endswith(b"%%EOF")
    assert png.read_bytes().startswith(b"\x89PNG")

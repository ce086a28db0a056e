"""Axes: what is declared, what is typed, and what is refused in one line."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import dataset_card
from recbole_llmgraph.model.catalogue import model_card, model_cards
from recbole_llmgraph.suite.cell import resolve_cell
from recbole_llmgraph.suite.sweep.axes import declared, points, read_panels, settings_class
from recbole_llmgraph.suite.sweep.plan import check_metrics, grid, place

PRE = model_card("HeLLMPre")


def axes(*texts: str, model: str = "HeLLMPre") -> list[Any]:
    return [axis for panel in read_panels(texts, model_card(model)) for axis in panel]


@pytest.mark.parametrize("name", sorted(model_cards()))
def test_every_declared_axis_and_ablation_is_a_valid_setting(name: str) -> None:
    card = model_cards()[name]
    for axis, ticks in declared(card, "search_space").items():
        assert list(axes(axis, model=name)[0].ticks) == list(ticks) and len(ticks) > 1
    whole = settings_class(card)()
    for changes in declared(card, "ablations").values():
        own = {key: value for key, value in changes.items() if "." not in key}
        assert settings_class(card).read(own, name) != whole


def test_the_papers_ticks_are_declared() -> None:
    """HeLLM, Fig. 3 and 4."""
    space = declared(PRE, "search_space")
    assert space["knn_k"] == [1, 5, 10, 15, 20, 25, 30]
    assert space["tau"] == [round(0.1 * n, 1) for n in range(1, 11)]
    assert space["embedding_size"][-1] == 256 and 1e-3 in space["reg_weight"]
    assert space["alpha"] == space["beta"] == [0.0, 0.1, 0.3, 0.5, 0.7, 0.9]


def test_an_axis_is_declared_ticks_own_values_or_a_range() -> None:
    tau, knn, rate, size = axes(
        "tau", "knn_k=1,5,5,10", "learning_rate=1e-4..1e-2", "embedding_size=8..64", model="HeLLMPre"
    )
    assert tau.ticks == tuple(declared(PRE, "search_space")["tau"])
    assert knn.ticks == (1, 5, 10) and not knn.ranged  # each once
    assert rate.ticks == (1e-4, 1e-2) and rate.ranged and rate.log and not rate.whole
    assert size.ranged and size.whole and not size.log
    assert rate.told() == "learning_rate 0.0001 … 0.01 (log)" and knn.told() == "knn_k {1, 5, 10}"


@given(st.lists(st.floats(min_value=1e-3, max_value=10), min_size=1, max_size=6))
def test_typed_values_are_the_ticks_in_their_order(values: list[float]) -> None:
    (axis,) = axes("tau=" + ",".join(map(repr, values)))
    assert list(axis.ticks) == list(dict.fromkeys(values))


def test_values_mean_what_the_setting_says() -> None:
    (axis,) = axes("tau=1,0.5")
    assert axis.ticks == (1.0, 0.5) and all(type(tick) is float for tick in axis.ticks)
    (axis,) = axes("source=true,false".replace("source", "use_cl"))
    assert axis.ticks == (True, False)
    (axis,) = axes("fidelity=release,paper")
    assert axis.ticks == ("release", "paper")


def test_two_axes_cross_and_panels_follow_one_another() -> None:
    panels = read_panels(["tau=0.1,0.2", "alpha=0,1*beta=0,0.5"], PRE)
    assert [len(panel) for panel in panels] == [1, 2]
    assert points(panels[1]) == [
        {"alpha": 0.0, "beta": 0.0}, {"alpha": 0.0, "beta": 0.5},
        {"alpha": 1.0, "beta": 0.0}, {"alpha": 1.0, "beta": 0.5},
    ]  # fmt: skip
    assert len(grid(panels)) == 6
    assert len(grid(read_panels([], PRE))) == sum(map(len, declared(PRE, "search_space").values()))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tua", r"no axis of HeLLMPre 'tua'\. Did you mean 'tau'\? Axes: knn_k, tau"),
        ("epochs", r"--axis epochs: HeLLMPre declares no ticks for it; write --axis epochs=a,b,c"),
        ("tau=", r"--axis tau=: no values"),
        ("tau=-1,0.5", r"HeLLMPre\.tau=-1: Input should be greater than 0"),
        ("knn_k=1.5", r"HeLLMPre\.knn_k=1\.5: Input should be a valid integer"),
        ("tau=0.9..0.1", r"--axis tau=0\.9\.\.0\.1: a range is two numbers, low\.\.high"),
        ("tau=0.1..0.1", "a range is two numbers"),
        ("tau=0.1..", "a range is two numbers"),
        ("tau=a..b", "a range is two numbers"),
        ("tau=0.1..0.5..1", "a range is two numbers"),
        ("tau=-1..0.5", r"HeLLMPre\.tau=-1: Input should be greater than 0"),
        ("tau=inf", "'inf' is not a finite number"),
        ("tau=.nan", "is not a finite number"),
        ("tau=[1", r"--axis tau: '\[1' is not a value"),
        ("tau*tau", "crosses two different axes at most"),
        ("tau*alpha*beta", "crosses two different axes at most"),
        ("Nothing.tau", "no model 'Nothing'"),
        ("", "no axis of HeLLMPre ''"),
    ],
)
def test_a_bad_axis_is_one_line(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as raised:
        read_panels([text], PRE)
    assert "\n" not in str(raised.value)


def test_an_axis_twice_is_refused() -> None:
    with pytest.raises(UserError, match="--axis tau: named twice"):
        read_panels(["tau=0.1", "tau=0.2"], PRE)


def test_a_range_has_no_grid() -> None:
    with pytest.raises(UserError, match="--axis tau: a range has no ticks; list values"):
        grid(read_panels(["tau=0.1..1"], PRE))


def test_metrics_are_those_that_validations_measure() -> None:
    assert check_metrics(["NDCG@10", "recall@20"]) == ["ndcg@10", "recall@20"]
    with pytest.raises(UserError, match=r"no metric 'ndgc@10'\. Did you mean 'ndcg@10'\?"):
        check_metrics(["ndgc@10"])


# -- places --------------------------------------------------------------------------------


def placed(purpose: Any, *texts: str, model: str = "HeLLMPre", sets: Any = None, metric: Any = None) -> Any:
    card = model_card(model)
    return place(
        purpose, card, dataset_card("beauty"), read_panels(texts, card), protocol="seq", preset="standard",
        overrides=sets or {}, metric=metric,
    )  # fmt: skip


def plain(model: str = "HeLLMPre", **changes: Any) -> Any:
    return resolve_cell(
        model_card(model), dataset_card("beauty"), protocol="seq", preset="standard", seed=1,
        overrides={model: changes} if changes else {},
    )  # fmt: skip


def test_a_figure_trains_every_tick_for_as_long() -> None:
    figure = placed("figure", "tau=0.1,0.2")
    cell = figure.cell({"tau": 0.1}, 1)
    assert cell.settings == plain(tau=0.1, stopping_step=0).settings
    asked = placed("figure", "tau=0.1,0.2", sets={"HeLLMPre": {"stopping_step": 3}})
    assert asked.cell({"tau": 0.1}, 1).settings.stopping_step == 3  # the user's word is the last


def test_a_search_validates_every_epoch_with_the_same_patience_in_epochs() -> None:
    before = plain().settings
    found = placed("tune", "tau", metric="ndcg@10").cell({"tau": 0.1}, 1).settings
    assert (found.eval_step, found.stopping_step) == (1, before.stopping_step * before.eval_step)
    assert found.valid_metric == "ndcg@10"
    assert placed("tune", "tau").cell({}, 1).settings.valid_metric == before.valid_metric


def test_the_base_is_the_presets_own_value() -> None:
    assert placed("figure", "tau", "knn_k").base == {
        "tau": plain().settings.tau,
        "knn_k": plain().settings.knn_k,
    }
    stage = placed("figure", "HeLLMPre.tau", "prefix_length", model="HeLLM")
    assert stage.base == {"HeLLMPre.tau": plain().settings.tau, "prefix_length": 10}


def test_a_stages_axis_changes_the_stage_alone() -> None:
    swept = placed("figure", "HeLLMPre.tau=0.1,0.2", model="HeLLM")
    one, two = (swept.cell({"HeLLMPre.tau": tau}, 1) for tau in (0.1, 0.2))
    assert one.settings == two.settings and one.overrides != two.overrides
    assert one.overrides["HeLLMPre"] == {"tau": 0.1}


def test_an_axis_of_a_strange_model_is_refused_and_stages_are_not_tuned() -> None:
    with pytest.raises(UserError, match=r"--axis LightGCN\.n_layers: HeLLM does not stand on LightGCN"):
        placed("figure", "LightGCN.n_layers", model="HeLLM")
    with pytest.raises(UserError, match="search HeLLMPre itself, --model=HeLLMPre --for tune"):
        placed("tune", "HeLLMPre.tau", model="HeLLM")


def test_a_sweep_needs_validations() -> None:
    with pytest.raises(UserError, match="a sweep reads validations; set eval_step=1"):
        placed("figure", "tau", sets={"HeLLMPre": {"eval_step": 0}})

"""What an oracle would cost, before a question is asked (`--dry-run`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd

from recbole_llmgraph.base.hashing import hash_data
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.host.dataset import load_split
from recbole_llmgraph.model.needs import OracleEdges
from recbole_llmgraph.oracle.estimate import estimate_table
from recbole_llmgraph.oracle.oracle import Oracle
from recbole_llmgraph.oracle.questions import Question
from recbole_llmgraph.suite.cell import Cell
from recbole_llmgraph.suite.edges import (
    CACHE,
    KIND,
    OFFERED,
    catalogue,
    drawn_users,
    edge_questions,
    edges_recipe,
    opened,
)
from recbole_llmgraph.suite.leave import CANDIDATES, read_candidates, read_ratings, training_ratings
from recbole_llmgraph.suite.provide import stage_of
from recbole_llmgraph.suite.run import Runner, make_cell_config

#: Beginnings of oracles that are asked; the others know or work out their answers.
ASKED = ("openai:", "hf:")


@dataclass
class Asked:
    """Questions to one oracle.

    Attributes:
        oracle: who would be asked.
        questions: that the cells need and whose edges are not there yet.
        stood_in: whether a stage is not trained yet, so that its candidates are not known.
    """

    oracle: Oracle
    questions: list[Question] = field(default_factory=list)
    stood_in: bool = False


def estimates(runner: Runner, cells: Sequence[Cell]) -> Iterator[str]:
    """Lines on what the cells would ask, cell by cell, each question once; none where no model is asked."""
    oracles: dict[str, Asked] = {}
    counted: set[str] = set()
    unknown: dict[str, None] = {}
    for cell in cells:
        for need in cell.needs:
            if not str(getattr(need, "oracle", "")).startswith(ASKED):
                continue
            if not isinstance(need, OracleEdges):  # profiles first, then questions that quote them
                unknown[f"{cell.model.name} asks in turns, each about earlier answers: not estimated"] = None
            else:
                # selection, where there is any, stands on edges without the hold-out
                for part in [cell.selecting, cell] if cell.settings.eval_step else [cell]:
                    _count(runner, part, need, oracles, counted)
    yield from unknown
    for asked in oracles.values():
        if not asked.questions:
            yield f"oracle {asked.oracle.label}: its edges are there, nothing would be asked"
            continue
        yield f"\noracle {asked.oracle.label}, estimated; nothing was asked:"
        yield estimate_table(asked.oracle.estimate(asked.questions))
        if asked.stood_in:
            yield "candidates are not trained yet: the most rated unseen items stand in for them"
        if asked.oracle.backend.price is None:
            yield "no price known: --set 'oracle_options={price_in: …, price_out: …}', US$ a million tokens"


def _count(
    runner: Runner, cell: Cell, need: OracleEdges, oracles: dict[str, Asked], counted: set[str]
) -> None:
    """Add the questions of a cell, unless its edges are there or counted already."""
    house, stage = runner.house, stage_of(cell, need)
    ready = house.ready(cell.dataset)
    who = hash_data([need.oracle, dict(need.options), cell.dataset.name])
    if who not in oracles:
        oracles[who] = Asked(opened(need, ready, house.artifacts.root / CACHE, asking=False))
    recipe = edges_recipe(need, ready, runner.key(stage), cell.seed)
    if hash_data(recipe) in counted or house.artifacts.find(KIND, recipe):
        return
    counted.add(hash_data(recipe))
    folder = runner.left(stage, CANDIDATES)
    offers, ratings = (read_candidates(folder), read_ratings(folder)) if folder else _stand_in(runner, stage)
    offers = drawn_users(offers, need.fraction, cell.seed)
    oracles[who].questions += edge_questions(offers, ratings, catalogue(ready), cell.seed)
    oracles[who].stood_in |= folder is None


def _stand_in(runner: Runner, stage: Cell) -> tuple[pd.DataFrame, pd.DataFrame]:
    """For every user of a stage that is not trained, the most rated unseen items; and its ratings."""
    say(f"{stage.label}: not trained yet; questions are counted with the most rated unseen items")
    ready = runner.house.ready(stage.dataset)
    split = load_split(make_cell_config(stage, stage.settings, ready, runner.house.device))
    ratings = training_ratings(split)
    assert ratings is not None  # protocols with edges have ratings
    ratings = ratings.sort_values(["user", "item"], ignore_index=True)
    popular = list(ratings["item"].value_counts().index)
    rows = []
    for user, items in ratings.groupby("user", sort=True)["item"]:
        met, offered = set(items), []
        for item in popular:
            if item not in met:
                offered.append(item)
            if len(offered) == OFFERED:
                break
        rows.append([user, offered, [0.0] * len(offered)])
    return pd.DataFrame(rows, columns=["user", "items", "scores"]), ratings

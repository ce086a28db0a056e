"""Paired comparisons of stored runs: which rows are meant, their users, and the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_llmgraph.base.errors import UserError, unknown
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.report.groups import activity_groups, split_facts
from recbole_llmgraph.report.leaderboard import ORDER_BY, Leaderboard
from recbole_llmgraph.report.markdown import code, escape, table
from recbole_llmgraph.report.notes import row_name
from recbole_llmgraph.report.pages import GENERATED, Page
from recbole_llmgraph.report.paired import RESAMPLES, bootstrap_interval, compare, holm
from recbole_llmgraph.report.words import mask_words
from recbole_llmgraph.store.per_user import PerUser
from recbole_llmgraph.store.runs import PER_USER, folder_name

#: Stands for every other row of a table.
ALL = "all"
#: Shortest start of a key that names a row.
_KEY_START = 6
EXPLAINED = (
    "Differences are first minus second, over the same users. Interval: 95 % percentile bootstrap over "
    "users. p: sign-flip permutation and Wilcoxon signed-rank, both two-sided. Bootstrap and permutation: "
    f"{RESAMPLES:,} resamples. Holm adjusts each p over all lines of this page. Effect: mean over standard "
    "deviation of the differences (d_z). With several seeds a user's value is the mean over seeds; whether "
    "other seeds would tell the same is not tested here."
)


@dataclass(frozen=True)
class Pair:
    """Two rows of one table, compared."""

    board: Leaderboard
    names: tuple[str, str]
    seeds: tuple[list[int], list[int]]
    result: pd.DataFrame
    groups: pd.DataFrame
    """`ORDER_BY` by users' activity: columns `group, users, mean_a, mean_b, difference, low, high`; empty
    without facts of the split."""


def compare_rows(
    boards: Sequence[Leaderboard], names: Sequence[str], resamples: int = RESAMPLES
) -> list[Pair]:
    """Compare the first two or more named rows, each with each, in every table that holds both.

    Args:
        boards: tables to look in.
        names: `Model`, `Model:variant`, `Model (variant)` as tables print it, or the start of a key; `all`
            for every other row of the table.
        resamples: of the bootstrap and the permutation test.

    Raises:
        UserError: when a name means several rows, or no table holds two of the names.
    """
    if len(set(names)) < 2:
        raise UserError("--paired needs two different names, such as --paired HeLLM,SASRec")
    pairs = []
    for board in boards:
        pairs += [_pair(board, left, right, resamples) for left, right in _places(board, names)]
    if not pairs:
        there = sorted({row_name(row.to_dict()) for board in boards for _, row in board.rows.iterrows()})
        for name in names:
            if there and name != ALL and all(find_row(board, name) is None for board in boards):
                raise unknown("row", name, there)
        raise UserError(
            f"--paired {','.join(names)}: no table holds two of these (a table has one protocol, split, mask "
            f"and preset). Rows there are: {', '.join(there) or 'none'}"
        )
    return pairs


def _places(board: Leaderboard, names: Sequence[str]) -> list[tuple[int, int]]:
    """Places of the rows to compare in a table: the named ones each with each, or with all others."""
    named = [find_row(board, name) for name in dict.fromkeys(names) if name != ALL]
    there = list(dict.fromkeys(place for place in named if place is not None))
    if ALL not in names:
        return list(combinations(there, 2))
    return [(place, other) for place in there for other in range(len(board.rows)) if other not in there]


def find_row(board: Leaderboard, name: str) -> int | None:
    """Place of the row that a name means; None where no row answers.

    Raises:
        UserError: when several rows answer to it.
    """
    rows = board.rows
    model, _, variant = name.partition(":")
    by_key = len(name) >= _KEY_START
    found = [
        place
        for place, row in enumerate(rows.to_dict("records"))
        if (row["model"], row["variant"]) == (model, variant)
        or row_name(row) == name
        or (by_key and any(key.startswith(name) for key in row["keys"]))
    ]
    if len(found) > 1:
        keys = ", ".join(rows["keys"].iloc[place][0][:12] for place in found)
        where = f"{board.dataset}, {board.protocol}, preset {board.preset}"
        raise UserError(
            f"--paired {name}: {len(found)} rows in {where}; name one by the start of its key: {keys}"
        )
    return found[0] if found else None


def users_of(folders: Sequence[str], mask: str) -> pd.DataFrame:
    """[users, metrics] values under a mask; with several runs (seeds), each user's mean over them."""
    frames = [_values(folder, mask) for folder in folders]
    values = np.mean([frame.to_numpy() for frame in frames], axis=0)
    return pd.DataFrame(values, columns=frames[0].columns)


@lru_cache(maxsize=64)
def _values(folder: str, mask: str) -> pd.DataFrame:
    """[users, metrics] values of one run under a mask; a ledger asks for the same few runs many times."""
    frame = PerUser.read(Path(folder) / PER_USER).to_frame()
    own = [column for column in frame.columns if column.endswith(f"|{mask}")]
    return frame[own].rename(columns=lambda column: column.partition("|")[0])


def paired_users(
    a: Mapping[Any, Any], b: Mapping[Any, Any], mask: str
) -> tuple[tuple[list[int], list[int]], tuple[pd.DataFrame, pd.DataFrame]]:
    """Seeds and [users, metrics] values of two rows of a table, over equally many seeds on either side."""
    seeds = common_seeds(a["seeds"], b["seeds"])
    left, right = (
        users_of(
            [folder for seed, folder in zip(row["seeds"], row["folders"], strict=True) if seed in own], mask
        )
        for row, own in zip((a, b), seeds, strict=True)
    )
    return seeds, (left, right)


def _pair(board: Leaderboard, left: int, right: int, resamples: int) -> Pair:
    """Compare two rows of a table."""
    rows = board.rows.to_dict("records")
    a, b = rows[left], rows[right]
    say(f"comparing {row_name(a)} with {row_name(b)} on {board.dataset}, mask {board.mask}")
    seeds, values = paired_users(a, b, board.mask)
    result = compare(*values, board.metrics, resamples)
    return Pair(board, (row_name(a), row_name(b)), seeds, result, by_activity(board, *values, resamples))


def by_activity(
    board: Leaderboard, a: pd.DataFrame, b: pd.DataFrame, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """The difference in `ORDER_BY` for users with few and with many training interactions.

    Args:
        board: table that both rows stand in.
        a, b: [users, metrics] values of its test users, in the split's order.
        resamples: of the bootstrap.

    Returns:
        As `Pair.groups`.
    """
    facts = split_facts(board)
    if facts is None or len(facts.users) != len(a):
        return pd.DataFrame()
    rows = []
    for group in activity_groups(facts.users["trained"].to_numpy(np.int64)):
        left, right = (values[ORDER_BY].to_numpy(np.float64)[group.members] for values in (a, b))
        low, high = bootstrap_interval(left - right, resamples, 0)
        means = {"mean_a": left.mean(), "mean_b": right.mean(), "difference": (left - right).mean()}
        rows.append({"group": group.name, "users": len(left), **means, "low": low, "high": high})
    return pd.DataFrame(rows)


def common_seeds(a: Sequence[int], b: Sequence[int]) -> tuple[list[int], list[int]]:
    """Seeds to average on either side: the shared ones, else as many of each as the shorter has.

    The mean over three seeds takes finer steps than one seed's value: ranks of differences between
    unequal numbers of seeds would lean to one side though both models were the same.
    """
    shared = sorted(set(a) & set(b))
    size = min(len(a), len(b))
    return (shared, shared) if shared else (sorted(a)[:size], sorted(b)[:size])


def paired_page(pairs: Sequence[Pair]) -> Page:
    """Comparisons as one page; Holm's adjustment runs over all of its lines."""
    adjusted = [
        holm(pd.concat([pair.result[name] for pair in pairs])) for name in ("p_permutation", "p_wilcoxon")
    ]
    parts = [GENERATED, "# Paired over users\n", f"{EXPLAINED}\n"]
    start = 0
    for pair in pairs:
        end = start + len(pair.result)
        parts.append(_section(pair, [column[start:end] for column in adjusted]))
        start = end
    datasets = "-".join(dict.fromkeys(folder_name(pair.board.dataset) for pair in pairs))
    names = "-".join(dict.fromkeys(_file_part(name) for pair in pairs for name in pair.names))
    return Page(f"paired-{datasets}-{names}.md", "\n".join(parts))


def _file_part(name: str) -> str:
    """`HeLLM (epochs=5 head=tied)` as `HeLLM_epochs_5_head_tied`."""
    return folder_name(name.replace(" (", " ").removesuffix(")"))


def _section(pair: Pair, adjusted: Sequence[np.ndarray]) -> str:
    """One comparison."""
    board, (a, b) = pair.board, (escape(name) for name in pair.names)
    header = ["metric", a, b, "difference", "95 % interval", "p permutation", "Holm", "p Wilcoxon", "Holm"]
    header += ["wins", "ties", "losses", "effect"]
    rows = [
        _line(row, permutation, wilcoxon)
        for row, permutation, wilcoxon in zip(pair.result.to_dict("records"), *adjusted, strict=True)
    ]
    seeds = " against ".join(", ".join(str(seed) for seed in side) for side in pair.seeds)
    users = f"{int(pair.result['users'].iloc[0]):,} users; seeds {seeds}"
    split = f"preset {code(board.preset)}, split {code(board.split_fingerprint)}"
    facts = (
        f"* Protocol {code(board.protocol)}, {split}, {users}\n"
        f"* Mask {code(board.mask)}: {mask_words(board.mask)}"
    )
    title = f"## {escape(board.dataset)}, mask {board.mask}: {a} against {b}"
    return f"{title}\n\n{facts}\n\n{table(header, rows)}\n{_groups(pair, a, b)}"


def _groups(pair: Pair, a: str, b: str) -> str:
    """For whom the difference is what it is."""
    if pair.groups.empty:
        return ""
    header = ["training interactions", "users", a, b, f"difference in {ORDER_BY}", "95 % interval"]
    rows = [
        [
            str(row["group"]),
            f"{row['users']:,}",
            f"{row['mean_a']:.4f}",
            f"{row['mean_b']:.4f}",
            *_difference(row),
        ]
        for row in pair.groups.to_dict("records")
    ]
    return f"\nUsers by activity, in quartiles; intervals as above, not adjusted:\n\n{table(header, rows)}\n"


def _difference(row: Mapping[Any, Any]) -> list[str]:
    """A difference and its interval."""
    return [f"{row['difference']:+.4f}", f"{row['low']:+.4f} … {row['high']:+.4f}"]


def _line(row: dict[str, float], permutation: float, wilcoxon: float) -> list[str]:
    """One metric of a comparison."""
    return [
        str(row["metric"]),
        f"{row['mean_a']:.4f}",
        f"{row['mean_b']:.4f}",
        *_difference(row),
        _p(row["p_permutation"]),
        _p(permutation),
        _p(row["p_wilcoxon"]),
        _p(wilcoxon),
        *(f"{row[name]:,}" for name in ("wins", "ties", "losses")),
        f"{row['effect']:+.3f}",
    ]


def _p(value: float) -> str:
    """A p-value; those below the resolution of the permutation test as a bound."""
    return f"{value:.4f}" if value >= 0.00005 else "&lt;0.0001"

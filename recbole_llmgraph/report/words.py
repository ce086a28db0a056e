"""Protocols, masks and presets in words: what a number means to somebody who reads only the table."""

from collections.abc import Callable, Sequence

from recbole_llmgraph.report.leaderboard import ORDER_BY, Leaderboard

_PROTOCOLS = {
    "seq": "leave-one-out; each user's last interaction is tested, the one before it validates, "
    "the others train",
    "rate": "80 % of the ratings, drawn at random once for all seeds, train; test ratings of 4 and 5 are "
    "relevant; 10 % of the training ratings choose the epoch, then the whole 80 % is trained for as long; a "
    "training of fixed length chooses nothing",
    "sign": "20 % of each user's ratings are tested (those that a paper released, where a row says so), "
    "those of 4 and 5 are relevant; "
    "10 % of each user's training ratings choose the epoch, then all of them are trained for as long",
}
_MASKS = {
    "train": "items of the user's own training interactions are taken out before ranking, so that a repeat "
    "of one can never be hit",
    "none": "every item is ranked, also those the user met in training",
}
_PRESETS = {
    "quick": "a look at the machinery in seconds; the numbers say little about the models",
    "standard": "trainings that two cores can do, built-in backbones; the same budget for compared rows",
    "paper": "the published settings",
}
_METRICS = {"recall": "R", "ndcg": "N", "precision": "P", "hit": "HR", "mrr": "MRR"}


def metric_title(metric: str, *, single_target: bool = False) -> str:
    """`recall@10` → `R@10`; with one test item a user `R@10 = HR@10`. Other columns keep their name."""
    kind, at, k = metric.partition("@")
    alias = f" = HR@{k}" if kind == "recall" and single_target else ""
    return f"{_METRICS.get(kind, kind)}{at}{k}{alias}"


def protocol_words(name: str) -> str:
    """One line on a protocol."""
    words = _PROTOCOLS.get(name.partition("@")[0], "as its own dataset card says")
    return f"draw {name.partition('@')[2]}: {words}" if "@" in name else words


def mask_words(name: str) -> str:
    """One line on a mask."""
    return _MASKS[name]


def preset_words(name: str) -> str:
    """One line on a preset."""
    return _PRESETS.get(name, "settings of its own")


def board_title(board: Leaderboard) -> str:
    """`seq, preset standard, mask train`."""
    mask = f"mask {board.mask}" if board.mask else ""
    return ", ".join(part for part in (board.protocol, f"preset {board.preset}", mask) if part)


def board_facts(board: Leaderboard, quote: Callable[[str], str] = str) -> list[str]:
    """What every row of a table shares.

    Args:
        board: the table.
        quote: how names are set apart from words; makes them safe for what is written.
    """
    if not len(board.rows):
        return ["Nothing was run here yet."] if not board.protocol else []
    users = f"{board.test_users:,} users tested" if board.test_users is not None else "users tested: unknown"
    items = (
        f"all {board.candidates:,} items" if board.candidates is not None else "all items of the catalogue"
    )
    facts = [
        f"Protocol {quote(board.protocol)}: {protocol_words(board.protocol)}",
        f"Mask {quote(board.mask)}: {mask_words(board.mask)}",
        f"Split {quote(board.split_fingerprint)}: {users}; candidates of each user: {items}, less the mask",
        f"Preset {quote(board.preset)}: {preset_words(board.preset)}",
    ]
    if board.single_target:
        facts.append("One test item a user: Recall is the hit rate (R@k = HR@k)")
    if any(len(seeds) > 1 for seeds in board.rows["seeds"]):
        facts.append("Several seeds: mean ± half the 95 % t-interval over seeds; costs are means")
    facts.append(
        f"± users: half the 95 % interval of {metric_title(ORDER_BY)} over test users, not over seeds"
    )
    return facts


def apart_words(boards: Sequence[Leaderboard]) -> str:
    """Why a dataset has several tables; empty where it has one."""
    names = {
        "protocol": "protocol",
        "mask": "mask",
        "split_fingerprint": "split",
        "candidates": "number of candidate items",
        "preset": "preset",
    }
    differ = [
        word for name, word in names.items() if len({str(getattr(board, name)) for board in boards}) > 1
    ]
    if len(boards) < 2 or not differ:
        return ""
    listed = differ[0] if len(differ) == 1 else f"{', '.join(differ[:-1])} and {differ[-1]}"
    return (
        f"{len(boards)} tables, because they differ in {listed}: numbers of two tables may not be compared."
    )

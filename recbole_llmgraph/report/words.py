"""Protocols, masks and presets in words: what a number means to somebody who reads only the table."""

_PROTOCOLS = {
    "seq": "leave-one-out; each user's last interaction is tested, the one before it validates, "
    "the others train",
    "rate": "80 % of the ratings, drawn at random, train; test ratings of 4 and 5 are relevant; "
    "10 % of the training ratings validate, then the whole 80 % is trained",
    "sign": "20 % of each user's ratings are tested, those of 4 and 5 are relevant; "
    "10 % of each user's training ratings validate",
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
    return _PROTOCOLS.get(name, "as its own dataset card says")


def mask_words(name: str) -> str:
    """One line on a mask."""
    return _MASKS[name]


def preset_words(name: str) -> str:
    """One line on a preset."""
    return _PRESETS.get(name, "settings of its own")

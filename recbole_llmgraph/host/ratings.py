"""Splits of rated interactions: at random over all of them (`rate`) or over each user's (`sign`).

Both know three parts of the ratings: FIT, HELD (a tenth of what may be trained on) and TEST. A run selects
with a model that was trained on FIT and is judged on HELD, and ends with one that was trained on both.
Targets are rows of HELD and TEST whose rating counts as relevant; masks and samplers know every rating that
was trained on, whatever its sign.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction, cat_interactions

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import RELEASED_TEST

Ids = npt.NDArray[np.int64]
#: Part of a rating: trained on always, trained on in the final run only, tested.
FIT, HELD, TEST = 0, 1, 2
#: Lowest rating that is relevant, and that models without an eye for ratings are trained on.
RELEVANT = 4.0


@dataclass(frozen=True)
class RatingSplit:
    """How ratings are split, as the config key `rating_split` holds it.

    Attributes:
        by_user: split each user's ratings (test part rounded up) instead of all at once.
        released: test what a paper released for the dataset (`released_test.tsv` beside the atomic files),
            if one did; only the hold-out is drawn then.
        test: fraction that is tested.
        held: fraction of the rest that is held out.
        seed: of the draw, which is the protocol's and not the run's: all runs of a table have one split.
    """

    by_user: bool = False
    released: bool = False
    test: float = 0.2
    held: float = 0.1
    seed: int = 1

    @classmethod
    def of(cls, config: Any) -> "RatingSplit | None":
        """The split that a config asks for; None under other protocols."""
        told = config["rating_split"]
        return cls(**told) if told else None


@dataclass(frozen=True)
class Ratings:
    """Who rated what, and how; RecBole's ids.

    Attributes:
        users, items: `[n]` ids.
        values: `[n]` ratings.
    """

    users: Ids
    items: Ids
    values: npt.NDArray[np.float32]


def draw_parts(dataset: Dataset, rule: RatingSplit) -> Ids:
    """Part of every rating, a pure function of who rated what and of the rule.

    Neither the order of the file nor RecBole's numbers matter: rows are put in order of their tokens first,
    and shuffled by NumPy's frozen generator, whose numbers never change between versions.

    Args:
        dataset: RecBole's dataset, before it is split.
        rule: fractions and seed.

    Returns:
        `FIT`, `HELD` or `TEST` of each row of `dataset.inter_feat`. `[n]`
    """
    frame = dataset.inter_feat
    users, items = (np.asarray(frame[name]) for name in (dataset.uid_field, dataset.iid_field))
    user_place, item_place = (token_places(dataset, name) for name in (dataset.uid_field, dataset.iid_field))
    by_token = np.lexsort((item_place[items], user_place[users]))
    shuffled = by_token[np.random.RandomState(rule.seed).permutation(len(by_token))]
    parts = np.full(len(frame), TEST, dtype=np.int64)
    if not rule.by_user:
        parts[shuffled] = _first(len(shuffled), round(rule.test * len(shuffled)), rule.held)
        return parts
    grouped = shuffled[np.argsort(users[shuffled], kind="stable")]
    tested = _released(dataset) if rule.released else None
    if tested is not None:
        grouped = grouped[~tested[grouped]]
    test = 0.0 if tested is not None else rule.test
    counts = np.bincount(users[grouped]).tolist()
    parts[grouped] = np.concatenate([_first(n, int(np.ceil(test * n)), rule.held) for n in counts])
    return parts


def _released(dataset: Dataset) -> npt.NDArray[np.bool_] | None:
    """Which ratings a paper's test part holds; None where none was released. `[n]`

    Raises:
        UserError: when a released pair is no rating of the dataset.
    """
    path = Path(dataset.config["data_path"]) / RELEASED_TEST
    if not path.is_file():
        return None
    frame, known = dataset.inter_feat, dataset.field2token_id
    width = dataset.item_num
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    pairs = [line.split("\t") for line in lines]
    try:
        wanted = [known[dataset.uid_field][u] * width + known[dataset.iid_field][i] for u, i in pairs]
    except KeyError as missing:
        raise UserError(f"{path}: no rating of {missing}; prepare the dataset again with --force") from None
    keys = np.asarray(frame[dataset.uid_field]) * width + np.asarray(frame[dataset.iid_field])
    tested: npt.NDArray[np.bool_] = np.isin(keys, wanted)
    if len(np.unique(keys[tested])) < len(set(wanted)):
        raise UserError(f"{path}: holds pairs that nobody rated; prepare the dataset again with --force")
    return tested


def token_places(dataset: Dataset, field: str) -> Ids:
    """Place of each id's token among all tokens in order. `[ids]`"""
    tokens = dataset.field2id_token[field].astype(str)
    places = np.empty(len(tokens), dtype=np.int64)
    places[np.argsort(tokens, kind="stable")] = np.arange(len(tokens))
    return places


def _first(n: int, test: int, held: float) -> Ids:
    """Parts of n shuffled rows: the first are tested, the next held out. `[n]`"""
    kept = round(held * (n - test))
    return np.repeat([TEST, HELD, FIT], [test, kept, n - test - kept])


def parts_of(dataset: Dataset) -> Ids | None:
    """Part of every rating of a whole dataset, drawn once; None under other protocols. `[n]`

    An audit asks before it exchanges items: what changes afterwards moves no row to another part.
    """
    rule = RatingSplit.of(dataset.config)
    if rule is None:
        return None
    if not hasattr(dataset, "rating_parts"):
        dataset.rating_parts = draw_parts(dataset, rule)
    parts: Ids = dataset.rating_parts
    return parts


def build_parts(dataset: Dataset) -> list[Dataset] | None:
    """Training, validation and test part under `rating_split`; None under other protocols.

    Config keys: `held_out` trains on FIT alone (without it on HELD too, so that the validation part has been
    trained on); `train_ratings` is `relevant` for models that take every row for a liking, `all` for models
    that read the rating; `edges` is a file of ratings that nobody gave (`append_edges`).

    Raises:
        UserError: when no target is relevant.
    """
    config, parts = dataset.config, parts_of(dataset)
    if parts is None:
        return None
    dataset._change_feat_format()
    rows: Interaction = dataset.inter_feat
    values = rows[config["RATING_FIELD"]].numpy()
    relevant = values >= RELEVANT
    trained = (parts == FIT) | ((parts == HELD) & (not config["held_out"]))
    learnt = trained if config["train_ratings"] == "all" else trained & relevant
    train = dataset.copy(rows[np.flatnonzero(learnt)])
    users, items = (rows[name].numpy()[trained] for name in (dataset.uid_field, dataset.iid_field))
    train.seen_ratings = Ratings(users, items, values[trained])
    if config["edges"]:
        append_edges(train, Path(config["edges"]))
    targets = [dataset.copy(rows[np.flatnonzero((parts == part) & relevant)]) for part in (HELD, TEST)]
    for name, target in zip(("hold-out", "test part"), targets, strict=True):
        if len(target) == 0:
            raise UserError(
                f"{config['dataset']}: no rating of {RELEVANT:g} or more in the {name}: too few ratings"
            )
    return [train, *targets]


def append_edges(train: Dataset, path: Path) -> None:
    """Add ratings that nobody gave (a language model's, say) to the rows that are learnt.

    They are no ratings of the user's: no mask takes them out, and `seen_ratings` does not know them.

    Args:
        train: a training part; models that learn likings only get the relevant ones.
        path: lines `user<TAB>item<TAB>rating` in external tokens.

    Raises:
        UserError: for an unknown user or item.
    """
    config = train.config
    ids: tuple[list[int], list[int]] = ([], [])
    values: list[float] = []
    known = [train.field2token_id[name] for name in (train.uid_field, train.iid_field)]
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        user, item, value = line.split("\t")
        if user not in known[0] or item not in known[1]:
            raise UserError(f"{path}:{number}: no user {user} or no item {item} in {config['dataset']}")
        if config["train_ratings"] == "all" or float(value) >= RELEVANT:
            ids[0].append(known[0][user])
            ids[1].append(known[1][item])
            values.append(float(value))
    rows: Interaction = train.inter_feat
    columns = {name: torch.zeros(len(values), dtype=rows[name].dtype) for name in rows.columns}
    columns[train.uid_field], columns[train.iid_field] = torch.tensor(ids[0]), torch.tensor(ids[1])
    columns[config["RATING_FIELD"]] = torch.tensor(values, dtype=rows[config["RATING_FIELD"]].dtype)
    if values:
        train.inter_feat = cat_interactions([rows, Interaction(columns)])


def _honour_rating_split() -> None:
    """Make RecBole's `build` follow the key `rating_split` where it is given.

    RecBole splits at random by torch's generator and knows no relevance by part: a floor on ratings would
    drop the low ones from training too.
    """
    original = Dataset.build

    def build(dataset: Dataset) -> list[Dataset]:
        return build_parts(dataset) or original(dataset)

    Dataset.build = build


_honour_rating_split()

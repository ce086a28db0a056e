"""What a model stands on besides interactions: features and tables that another stage makes.

A model declares its needs as data (`needs(settings)`); the suite provides each as a
file and writes the path into the setting that the need names. Paths never enter a run's
key; the identity of what lies there does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TextFeatures:
    """Sentence vectors of item texts, written into setting `field`."""

    field: str
    encoder: str


@dataclass(frozen=True)
class ItemFeature:
    """A feature matrix that came with the dataset (`image`); the setting stays empty where there is none."""

    field: str
    name: str


@dataclass(frozen=True)
class ItemTable:
    """Item vectors that another model of the suite trains on the same split and seed."""

    field: str
    model: str


@dataclass(frozen=True)
class UserTable:
    """User vectors that another model of the suite trains on the same split and seed."""

    field: str
    model: str


@dataclass(frozen=True)
class ItemTexts:
    """The items' raw texts, to build a tokenizer from."""

    field: str


@dataclass(frozen=True)
class ItemTitles:
    """Each item's text by its token, for prompts that name items."""

    field: str


@dataclass(frozen=True)
class OracleEdges:
    """Ratings that a language model, or a control, gives to candidates of an earlier stage.

    Attributes:
        field: setting that holds the file of edges.
        oracle: who picks, as the setting of that name says.
        fraction: of the users, drawn by the seed, who get edges.
        options: of the oracle (`OracleOptions`).
        model: the stage that offers candidates; it is run without edges of its own.
    """

    field: str
    oracle: str
    fraction: float
    options: Mapping[str, Any]
    model: str = "LightGCN"


@dataclass(frozen=True)
class Augmentation:
    """Liked and disliked candidates of an earlier stage, as many of each, for some users (LAGCL4Rec).

    Attributes:
        field: setting that holds the file of edges.
        sides: `both`, `positive` or `negative`: what is kept of the balanced choice.
        users: `cold` (fewer training ratings than the median user) or `all`.
        k: most items of each sign a user.
        top: positives are chosen among this many best candidates.
        until: negatives among those from there to this rank.
        oracle: who chooses.
        profiles: what items and users are described by.
        options: of the oracle.
        model: the stage that offers candidates.
    """

    field: str
    sides: str
    users: str
    k: int
    top: int
    until: int
    oracle: str
    profiles: str
    options: Mapping[str, Any]
    model: str


@dataclass(frozen=True)
class Groups:
    """A group for every item and user.

    Attributes:
        field: setting that holds the file.
        source: `oracle`, `replay`, `kmeans` or `random`.
        counts: groups of items and of users, 0 for the rounded root of their number.
        oracle: who groups, for `oracle`.
        profiles: what items and users are described by.
        options: of the oracle.
    """

    field: str
    source: str
    counts: tuple[int, int]
    oracle: str
    profiles: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class RerankTexts:
    """What a reranker reads of items and users, made from the training part."""

    field: str
    oracle: str
    profiles: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class ProfileVectors:
    """Sentence vectors of items' and users' profiles, which are made from the training part (RLMRec).

    Attributes:
        field: setting that holds the folder.
        encoder: of the sentences.
        oracle: who describes users and items.
        profiles: how.
        options: of the oracle.
    """

    field: str
    encoder: str
    oracle: str
    profiles: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Reranker:
    """A classifier that is trained on the hold-out alone, on candidates of a stage that did not see it.

    Attributes:
        field: setting that holds its folder.
        plan: all settings that decide its training.
        oracle: who describes users and items.
        profiles: how.
        options: of the oracle.
        model: the stage that offers candidates.
    """

    field: str
    plan: Mapping[str, Any]
    oracle: str
    profiles: str
    options: Mapping[str, Any]
    model: str


Need = (
    TextFeatures
    | ItemFeature
    | ItemTable
    | UserTable
    | ItemTexts
    | ItemTitles
    | OracleEdges
    | Augmentation
    | Groups
    | RerankTexts
    | ProfileVectors
    | Reranker
)

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


Need = TextFeatures | ItemFeature | ItemTable | UserTable | ItemTexts | OracleEdges

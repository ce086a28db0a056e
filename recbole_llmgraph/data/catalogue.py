"""Dataset cards: what a dataset is, what it must count, where it comes from.

A card is one yaml file, `properties/dataset/<name>.yaml`; a user's own card is a path to such a file.
"""

import functools
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

import recbole_llmgraph
from recbole_llmgraph.base.errors import UserError, unknown
from recbole_llmgraph.base.files import read_yaml
from recbole_llmgraph.base.settings import Settings

Protocol = Literal["seq", "rate", "sign"]
#: What a source file can hold; one file may hold several.
Kind = Literal["interactions", "ids", "items", "attributes", "times", "image", "test"]
#: How a source file is read; `convert` has one reader for each pair of converter and kind.
Converter = Literal[
    "s3rec", "mcauley", "movielens", "yelp", "recbole", "letter", "joined", "agent4rec", "npy", "signed"
]

#: Columns of `.item` that every road to a dataset must fill alike, in their order.
ITEM_COLUMNS = ("title", "brand", "categories", "release_year", "attributes")


class Counts(Settings):
    """What the prepared files must count; `repeats` are visits of a user to an item beyond the first."""

    users: PositiveInt
    items: PositiveInt
    interactions: PositiveInt
    repeats: NonNegativeInt = 0


class Source(Settings):
    """One file that a dataset can be made from."""

    #: Name inside a source folder, plain or with `.gz` added.
    file: str
    holds: list[Kind]
    converter: Converter
    #: Where a download finds it; none for a file that only lies on somebody's disk.
    url: str | None = None
    #: SHA-256 of the uncompressed bytes, or `unknown`.
    sha256: str = Field("unknown", pattern=r"^(unknown|[0-9a-f]{64})$")
    #: Used when it lies in a source folder, never downloaded.
    optional: bool = False
    #: Name of a zip archive that holds `file`; `url` is then the archive's.
    archive: str | None = None
    #: The file carries the source's own ids (ASIN, business id); the id maps translate them.
    raw_ids: bool = False
    #: Drop users and items with fewer interactions until none is left; 0 where the source did it.
    core: NonNegativeInt = 0
    #: Keep interactions of `[from, until]` only, as `YYYY-MM-DD HH:MM:SS`.
    period: tuple[str, str] | None = None
    #: File beside a feature matrix that names its rows: an item id a line, or MMRec's id mapping.
    rows: str | None = None
    #: Other addresses of the same bytes.
    mirrors: list[str] = []
    #: Text fields whose author is unknown or a language model: they may have seen test interactions.
    provenance_unknown: list[str] = []
    note: str = ""
    #: Told in the manifest of every dataset that is made from this file.
    caveat: str = ""


class DatasetCard(Settings):
    """One dataset: names, protocols, asserted counts, sources, licence, citation, text and features."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str
    aliases: list[str] = []
    #: First is the default.
    protocols: list[Protocol] = Field(min_length=1)
    counts: Counts
    sources: list[Source] = Field(min_length=1)
    licence: str
    citation: str
    #: Item texts that a model reads when it names no fields of its own, in this order.
    text: list[str] = []
    #: Read instead, and marked in the manifest, where none of `text` is there.
    text_fallback: list[str] = []
    features: list[str] = []
    #: What is known of this dataset inside the training data of public language models.
    contamination: str
    mask_default: Literal["train", "none"] = "train"
    rating_range: tuple[float, float] | None = None

    @field_validator("sources")
    @classmethod
    def _has_interactions(cls, sources: list[Source]) -> list[Source]:
        if not any("interactions" in source.holds for source in sources):
            raise ValueError("no source holds the interactions")
        return sources

    @model_validator(mode="after")
    def _protocols_fit(self) -> "DatasetCard":
        if self.rated and self.rating_range is None:
            raise ValueError("protocols rate and sign need rating_range: [lowest, highest]")
        return self

    @property
    def rated(self) -> bool:
        """Whether `.inter` has a rating column."""
        return bool({"rate", "sign"} & set(self.protocols))

    @property
    def released_test(self) -> Source | None:
        """File of a test part that a paper released for `sign`."""
        return next((source for source in self.sources if "test" in source.holds), None)

    @property
    def names(self) -> list[str]:
        """Every name the dataset answers to, the proper one first."""
        return [self.name, *self.aliases]


def properties_folder() -> Path:
    """`properties/`, beside the package in a checkout and inside it when installed from a wheel."""
    package = Path(recbole_llmgraph.__file__).parent
    inside = package / "properties"
    return inside if inside.is_dir() else package.parent / "properties"


def read_card(path: Path) -> DatasetCard:
    """Read and check one card.

    Raises:
        UserError: naming the file and the setting that is wrong.
    """
    values = read_yaml(path)
    for place, source in enumerate(values.get("sources") or []):
        if isinstance(source, dict):
            Source.read(source, f"{path}: sources[{place}]")
    return DatasetCard.read(values, str(path))


@functools.cache
def _shipped() -> tuple[DatasetCard, ...]:
    folder = properties_folder() / "dataset"
    cards = [read_card(path) for path in sorted(folder.glob("*.yaml"))]
    if not cards:
        raise UserError(f"{folder}: no dataset cards; install the package again (pip install -e .)")
    return tuple(cards)


def dataset_cards() -> list[DatasetCard]:
    """Every card that ships with the suite, by name."""
    return list(_shipped())


def dataset_card(name_or_path: str) -> DatasetCard:
    """The card of a dataset by name, alias or path of a `.yaml` file.

    Raises:
        UserError: with the nearest known name.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return read_card(Path(name_or_path))
    for card in _shipped():
        if name_or_path.lower() in (name.lower() for name in card.names):
            return card
    known = [name for card in _shipped() for name in card.names]
    names = ", ".join(card.name for card in _shipped())
    raise unknown("dataset", name_or_path, known, f"Known: {names}, or the path of a card (.yaml).")

"""Cards: what ships, how it is found."""

import re
from pathlib import Path

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data import convert
from recbole_llmgraph.data.catalogue import dataset_card, dataset_cards

#: Users, items, interactions, repeat visits, as published with S3-Rec and by GroupLens.
COUNTS = {
    "beauty": (22_363, 12_101, 198_502, 0),
    "sports": (35_598, 18_357, 296_337, 0),
    "toys": (19_412, 11_924, 167_597, 0),
    "yelp": (30_431, 20_033, 316_354, 11_830),
    "ml-100k": (943, 1_682, 100_000, 0),
    "ml-1m": (6_040, 3_706, 1_000_209, 0),
}
READERS = {
    "interactions": convert.INTERACTIONS, "ids": convert.IDS, "items": convert.ITEMS,
    "attributes": convert.ATTRIBUTES, "times": convert.TIMES, "image": convert.IMAGE,
    "test": convert.TEST,
}  # fmt: skip


def test_the_cards_are_these() -> None:
    cards = {card.name: card.counts for card in dataset_cards()}
    assert {name: (c.users, c.items, c.interactions, c.repeats) for name, c in cards.items()} == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_a_card_is_complete(name: str) -> None:
    card = dataset_card(name)
    amazon_or_yelp = name in ("beauty", "sports", "toys", "yelp")
    assert card.protocols == (["seq"] if amazon_or_yelp else ["seq", "rate", "sign"])
    assert card.mask_default == ("none" if name == "yelp" else "train")
    assert card.licence and card.citation and card.contamination
    for source in card.sources:
        for kind in source.holds:
            assert source.converter in READERS[kind], f"{source.file} holds {kind}"
        assert source.url or source.note or source.optional
        if source.url and "raw.githubusercontent.com" in source.url:
            assert re.search(r"/[0-9a-f]{40}/", source.url), "a pinned revision, not a branch"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("amazon-beauty", "beauty"), ("Amazon_Beauty", "beauty"), ("AMAZON-SPORTS", "sports"),
        ("amazon-toys", "toys"), ("Yelp", "yelp"), ("ml1m", "ml-1m"), ("ML-100K", "ml-100k"),
    ],
)  # fmt: skip
def test_aliases(name: str, found: str) -> None:
    assert dataset_card(name).name == found


def test_no_two_datasets_share_a_name() -> None:
    names = [name.lower() for card in dataset_cards() for name in {n.lower() for n in card.names}]
    assert len(names) == len(set(names))


def test_a_near_miss_is_named() -> None:
    with pytest.raises(
        UserError, match=r"no dataset 'sprots'. Did you mean 'sports'\? Known: beauty, ml-100k"
    ):
        dataset_card("sprots")


def test_a_card_of_ones_own(shop) -> None:
    card = dataset_card(str(shop.card(name="my-shop")))
    assert card.name == "my-shop"
    assert card.names == ["my-shop"]


def test_a_card_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        dataset_card(str(tmp_path / "none.yaml"))

"""One reader for each pair of converter and kind."""

from collections.abc import Callable, Container

from recbole_llmgraph.data.convert import joined, mcauley, movielens, npy, recbole, s3rec, signed, yelp
from recbole_llmgraph.data.convert.common import IdMaps, ItemSide
from recbole_llmgraph.data.features import Feature
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows
from recbole_llmgraph.data.sources import SourceFile

INTERACTIONS: dict[str, Callable[[SourceFile, BadRows], Interactions]] = {
    "s3rec": s3rec.read_sequences,
    "mcauley": mcauley.read_interactions,
    "movielens": movielens.read_interactions,
    "yelp": yelp.read_interactions,
    "recbole": recbole.read_interactions,
    "joined": joined.read_ratings,
}
IDS: dict[str, Callable[[SourceFile, BadRows], IdMaps]] = {
    "s3rec": s3rec.read_ids,
    "mcauley": mcauley.read_ids,
    "yelp": yelp.read_ids,
    "joined": joined.read_ids,
}
#: The container tells which items somebody touched, in the file's own ids.
ITEMS: dict[str, Callable[[SourceFile, BadRows, Container[str]], ItemSide]] = {
    "mcauley": mcauley.read_items,
    "movielens": movielens.read_items,
    "yelp": yelp.read_items,
    "recbole": recbole.read_items,
    "letter": yelp.read_letter,
    "joined": joined.read_items,
    "agent4rec": joined.read_summaries,
}
ATTRIBUTES: dict[str, Callable[[SourceFile, BadRows], dict[str, list[str]]]] = {
    "s3rec": s3rec.read_attributes
}
TIMES: dict[str, Callable[[SourceFile, BadRows], Interactions]] = {
    "joined": recbole.read_interactions,
    "mcauley": mcauley.read_interactions,
    "yelp": yelp.read_interactions,
}
#: A released test part, given every rating.
TEST: dict[str, Callable[[SourceFile, Interactions, BadRows], tuple[list[tuple[str, str]], list[str]]]] = {
    "signed": signed.read_test,
}
IMAGE: dict[str, Callable[[SourceFile, BadRows, Container[str]], Feature]] = {
    "mcauley": mcauley.read_image,
    "npy": npy.read_image,
}

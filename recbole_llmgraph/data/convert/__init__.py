"""One reader for each pair of converter and kind."""

from collections.abc import Callable

from recbole_llmgraph.data.convert import joined, recbole, s3rec
from recbole_llmgraph.data.convert.common import IdMaps, ItemSide
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows
from recbole_llmgraph.data.sources import SourceFile

INTERACTIONS: dict[str, Callable[[SourceFile, BadRows], Interactions]] = {
    "s3rec": s3rec.read_sequences,
    "recbole": recbole.read_interactions,
    "joined": joined.read_ratings,
}
IDS: dict[str, Callable[[SourceFile, BadRows], IdMaps]] = {"s3rec": s3rec.read_ids}
ITEMS: dict[str, Callable[[SourceFile, BadRows], ItemSide]] = {
    "recbole": recbole.read_items,
    "joined": joined.read_items,
}
ATTRIBUTES: dict[str, Callable[[SourceFile, BadRows], dict[str, list[str]]]] = {"s3rec": s3rec.read_attributes}
TIMES: dict[str, Callable[[SourceFile, BadRows], Interactions]] = {"joined": joined.read_times}

"""MovieLens folders: `u.data`/`u.item` (100K), `ratings.dat`/`movies.dat` (1M). In Latin-1."""

from collections.abc import Container

from recbole_llmgraph.data.convert.common import Columns, Item, ItemSide, title_and_year
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows
from recbole_llmgraph.data.sources import SourceFile

#: Columns 6 to 24 of `u.item` (its `u.genre`).
GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
) + (
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_ENCODING = "latin-1"


def read_interactions(found: SourceFile, bad: BadRows) -> Interactions:
    """`user item rating time`, set apart by tabs (100K) or `::` (1M)."""
    separator = "::" if found.source.file.endswith(".dat") else "\t"
    columns = Columns(found, bad)
    for number, text in found.lines(bad, _ENCODING):
        cells = text.split(separator)
        if len(cells) == 4:
            columns.add(number, *cells)
        else:
            bad.add(found, number, f"{len(cells)} columns where user, item, rating and time should be")
    return columns.interactions(rated=True, timed=True)


def read_items(found: SourceFile, bad: BadRows, wanted: Container[str]) -> ItemSide:
    """Title, year of release and genres of every film that somebody rated."""
    side = ItemSide(str(found))
    hundred_thousand = not found.source.file.endswith(".dat")
    width = 5 + len(GENRES) if hundred_thousand else 3
    for number, text in found.lines(bad, _ENCODING):
        cells = text.split("|" if hundred_thousand else "::")
        if len(cells) != width:
            bad.add(found, number, f"{len(cells)} columns where {width} should be")
        elif side.accepts(cells[0], number, bad, wanted):
            flags = zip(GENRES, cells[5:], strict=False)
            genres = (
                [name for name, flag in flags if flag == "1"] if hundred_thousand else cells[2].split("|")
            )
            side.rows[cells[0]] = _fields(cells[1], genres)
    return side


def _fields(title: str, genres: list[str]) -> Item:
    name, year = title_and_year(title)
    return {"title": name, "release_year": year, "categories": genres}

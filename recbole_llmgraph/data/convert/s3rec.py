"""S3-Rec files: user sequences, item attributes, and the id maps (`datamaps.json`) of LLM-RecSys-ID.

Sequences: one user a line, `user item item …`, oldest first (github.com/RUCAIBox/CIKM2020-S3Rec, data/).
"""

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.convert.common import IdMaps, read_json
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows, token_check
from recbole_llmgraph.data.sources import SourceFile


def read_sequences(found: SourceFile, bad: BadRows) -> Interactions:
    """One row for every visit, in the order of the file."""
    users: list[str] = []
    items: list[str] = []
    lines: list[int] = []
    first_line: dict[str, int] = {}
    check = token_check()
    for number, text in found.lines(bad):
        user, *visits = text.split(" ")
        fault = _line_fault(text, user, visits, first_line) or check(user)
        fault = fault or next(filter(None, map(check, visits)), None)
        if fault:
            bad.add(found, number, fault)
            continue
        first_line[user] = number
        users += [user] * len(visits)
        items += visits
        lines += [number] * len(visits)
    return Interactions(users, items, lines=lines)


def _line_fault(text: str, user: str, visits: list[str], first_line: dict[str, int]) -> str | None:
    if not text.strip():
        return "an empty line where a user's sequence should be"
    if "\t" in text:
        return "a tab where single blanks should be (user item item …)"
    if user in first_line:
        return f"user {user} stands in line {first_line[user]} already"
    return None if visits else f"user {user} has no items"


def read_attributes(found: SourceFile, bad: BadRows) -> dict[str, list[str]]:
    """Attribute ids of every item, in the file's order, each once."""
    attributes: dict[str, list[str]] = {}
    for place, (item, ids) in enumerate(read_json(found).items(), start=1):
        if isinstance(ids, list) and all(isinstance(one, int) for one in ids):
            attributes[item] = list(dict.fromkeys(map(str, ids)))
        else:
            bad.add(found, 1, f"entry {place} (item {item}) is no list of whole numbers")
    return attributes


def read_ids(found: SourceFile, bad: BadRows) -> IdMaps:
    """The maps from the source's user and item ids to those of the sequences."""
    data = read_json(found)
    maps = []
    for name in ("user2id", "item2id"):
        pairs = data.get(name)
        if not isinstance(pairs, dict) or not pairs:
            raise UserError(
                f"{found}:1: holds no '{name}'; fetch the datamaps.json that belongs to the sequences"
            )
        ids = {str(key): str(value) for key, value in pairs.items()}
        if len(set(ids.values())) < len(ids):
            raise UserError(f"{found}:1: '{name}' gives one id to two names; fetch it again")
        maps.append(ids)
    return IdMaps(users=maps[0], items=maps[1], origin=str(found))

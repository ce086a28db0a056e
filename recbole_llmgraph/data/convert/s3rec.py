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
        fault = check(user)
        if not text.strip():
            fault = "an empty line where a user's sequence should be"
        elif "\t" in text:
            fault = "a tab where a single blank should be (user item item …)"
        elif user in first_line:
            fault = f"user {user} stands in line {first_line[user]} already"
        elif not visits:
            fault = f"user {user} has no items"
        fault = fault or next(filter(None, map(check, visits)), None)
        if fault:
            bad.add(found, number, fault)
            continue
        first_line[user] = number
        users += [user] * len(visits)
        items += visits
        lines += [number] * len(visits)
    return Interactions(users, items, lines=lines)


def read_attributes(found: SourceFile, bad: BadRows) -> dict[str, list[str]]:
    """Attribute ids of every item, in the file's order, each once."""
    data = read_json(found)
    attributes: dict[str, list[str]] = {}
    for place, (item, ids) in enumerate(data.items(), start=1):
        if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
            bad.add(found, 1, f"entry {place} (item {item}) is no list of whole numbers")
            continue
        attributes[item] = list(dict.fromkeys(map(str, ids)))
    return attributes


def read_ids(found: SourceFile, bad: BadRows) -> IdMaps:
    """The maps from the source's user and item ids to those of the sequences."""
    data = read_json(found)
    maps = []
    for name in ("user2id", "item2id"):
        pairs = data.get(name)
        if not isinstance(pairs, dict) or not pairs:
            raise UserError(f"{found}: holds no '{name}'; fetch the datamaps.json that belongs to the sequences")
        if len(set(pairs.values())) < len(pairs):
            raise UserError(f"{found}: '{name}' gives one id to two names; fetch it again")
        maps.append({str(key): str(value) for key, value in pairs.items()})
    return IdMaps(users=maps[0], items=maps[1], origin=str(found))

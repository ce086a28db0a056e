"""A released test part: lines `user item 1|-1`, the sign telling whether the rating is 4 or more."""

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.interactions import Interactions
from recbole_llmgraph.data.rows import BadRows
from recbole_llmgraph.data.sources import SourceFile

#: Lowest rating whose sign is positive.
LIKED = 4.0
#: Of a thousand lines, so many may be broken before the file is taken for another dataset's.
BROKEN = 1


def read_test(found: SourceFile, rows: Interactions, bad: BadRows) -> tuple[list[tuple[str, str]], list[str]]:
    """Tested (user, item) pairs in the order of the file, and what was left out.

    A line counts when its pair is a rating of the dataset and its sign that rating's. The few others, damaged
    before the file was released, are left out and told.

    Args:
        found: the file.
        rows: every rating.
        bad: where lines that are no text go.

    Raises:
        UserError: for a pair that stands twice, or when more than one line in a thousand does not count.
    """
    ratings = dict(zip(zip(rows.users, rows.items, strict=True), rows.ratings or [], strict=True))
    pairs: dict[tuple[str, str], None] = {}
    broken: list[int] = []
    lines = 0
    for number, text in found.lines(bad):
        cells = text.split()
        lines += 1
        pair = (cells[0], cells[1]) if len(cells) == 3 else ("", "")
        if pair not in ratings or cells[2] != ("1" if float(ratings[pair]) >= LIKED else "-1"):
            broken.append(number)
        elif pair in pairs:
            raise UserError(
                f"{found}:{number}: user {pair[0]} and item {pair[1]} stand twice; fetch it again"
            )
        else:
            pairs[pair] = None
    if len(broken) * 1000 > BROKEN * lines:
        first = f", the first in line {broken[0]}" if broken else ""
        raise UserError(
            f"{found}: {len(broken):,} of {lines:,} lines are no ratings of this dataset{first}; "
            f"fetch the file again, or move it away"
        )
    where = ", ".join(map(str, broken))
    return list(pairs), [f"released test part: damaged lines left out: {where}"] if broken else []

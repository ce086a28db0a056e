"""How P5 and its relatives write an item: numbers and their pieces, made from the training part alone.

An index may tell nothing of what is to be predicted. Numbers given over whole histories do: a user's last
item, met by nobody before, bears the number after her other items. The ids of a prepared dataset are such
numbers (its source gave them in that order), and so are RecBole's; no code here reads their order.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from recbole_llmgraph.host.dataset import item_tokens, training_pairs

Ids = npt.NDArray[np.int64]
Numbering = Literal["sequential", "random"]
#: T5's own end of a text.
END = "</s>"


def hashed_order(tokens: Sequence[str]) -> Ids:
    """Ids of all items but padding in the order of their tokens' hashes, which tells nothing. `[N - 1]`"""
    keys = [hashlib.sha256(token.encode()).digest() for token in tokens[1:]]
    return np.array(sorted(range(1, len(tokens)), key=lambda item: keys[item - 1]), dtype=np.int64)


def item_numbers(dataset: Any, numbering: Numbering, first: int) -> Ids:
    """Number of every item, 0 for padding. `[N]`

    Args:
        dataset: a training part.
        numbering: `sequential` counts in the order in which items first occur in the users'
            training histories, one user after the other, so that items met together have close numbers;
            items without any training interaction come last, in `hashed_order`. `random` counts in
            `hashed_order`, which tells nothing.
        first: the first number.
    """
    order = hashed_order(item_tokens(dataset))
    if numbering == "sequential":
        met, place = np.unique(training_pairs(dataset)[1], return_index=True)
        met = met[np.argsort(place)]
        order = np.concatenate([met, order[~np.isin(order, met)]])
    numbers = np.zeros(len(order) + 1, dtype=np.int64)
    numbers[order] = first + np.arange(len(order))
    return numbers


def word_codes(numbers: Ids, digits: int) -> Ids:
    """Numbers cut from the left as a tokenizer does, the last piece as long as it comes, and an end piece.

    Args:
        numbers: at least 0; 0 is padding. `[N]`
        digits: of one piece.

    Returns:
        Places in `word_pieces` counted from 1, 0 on the right. `[N, C]`
    """
    places = {piece: place for place, piece in enumerate(word_pieces(digits), 1)}
    written = [str(number) for number in numbers.tolist()]
    codes = np.zeros((len(numbers), -(-max(map(len, written)) // digits) + 1), dtype=np.int64)
    for row, word in enumerate(written):
        if numbers[row]:
            pieces = [word[start : start + digits] for start in range(0, len(word), digits)]
            codes[row, : len(pieces) + 1] = [places[piece] for piece in [*pieces, END]]
    return codes


def word_pieces(digits: int) -> list[str]:
    """Every piece of `word_codes`: one digit, two digits, ..., the end."""
    return [piece for length in range(1, digits + 1) for piece in piece_texts(length)] + [END]


def number_codes(numbers: Ids, digits: int) -> Ids:
    """Numbers cut into pieces of some digits, all of them equally long, zeros in front.

    Args:
        numbers: at least 0; 0 is padding. `[N]`
        digits: of one piece.

    Returns:
        Pieces counted from 1 (`00` is 1, `73` is 74), 0 for padding. `[N, C]`
    """
    base = 10**digits
    count = 1
    while base**count <= numbers.max():
        count += 1
    pieces = numbers[:, None] // base ** np.arange(count - 1, -1, -1) % base + 1
    return np.where(numbers[:, None] > 0, pieces, 0)


def piece_texts(digits: int) -> list[str]:
    """What each piece says, for backbones that can read: `00`, `01`, ... `[10^digits]`"""
    return [f"{piece:0{digits}d}" for piece in range(10**digits)]

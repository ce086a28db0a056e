"""A made shelf of films, and questions about them."""

from collections.abc import Callable

import pytest

from recbole_llmgraph.oracle.questions import Item, Question, edge_pair

GENRES = ("comedy", "war", "romance", "horror")
WORDS = {
    "comedy": "funny clown laughing joke",
    "war": "soldier battle trench general",
    "romance": "love kiss wedding summer",
    "horror": "ghost blood scream night",
}


def film(number: int, rating: float | None = None) -> Item:
    """Film `number`; its genre is its number modulo four."""
    genre = GENRES[number % 4]
    return Item(str(100 + number), f"{WORDS[genre]} part {number}", (genre,), rating)


def make_pair(user: int) -> Question:
    """A user who likes one genre and dislikes the next; four candidates, one of each genre."""
    likes, dislikes = user % 4, (user + 1) % 4
    history = [film(likes + 4 * k, 5.0) for k in range(1, 4)] + [film(dislikes + 4 * k, 1.0) for k in (1, 2)]
    start = 40 + 4 * (user // 4)
    return edge_pair(history, [film(start + k) for k in range(4)], about=f"user {user}")


@pytest.fixture(scope="session")
def films() -> list[Item]:
    return [film(number) for number in range(400)]


@pytest.fixture(scope="session")
def pair_question() -> Callable[[int], Question]:
    """Function: number of a user -> question of an edge pair."""
    return make_pair

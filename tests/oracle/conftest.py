"""A made shelf of films, questions about them, and a server of chat completions with faults."""

import json
import random
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

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


@pytest.fixture
def server() -> Iterator["Server"]:
    """A server of chat completions, without faults until `share` is set."""
    with Server() as running:
        yield running


class Server:
    """Speaks the chat-completions protocol; a share of its replies is faulty.

    Attributes:
        share: of requests that meet a fault.
        faults: kinds of faults to draw from.
        asked: conversations in order of arrival, as the texts of their turns.
        answered: those that got a whole reply, good or not.
        met: number of each fault that was given, `""` for good replies.
        tell: function: ids of candidates and of the history -> text of a good reply.
        status: what to answer to every request instead; KEY in it stands for the client's header.
    """

    HTTP = ("429", "500", "slow", "cut", "no JSON", "no choices")
    SPOKEN = ("prose", "empty", "outside", "twice", "history", "two pairs", "broken")

    def __init__(self) -> None:
        self.share, self.faults = 0.0, self.HTTP + self.SPOKEN
        self.asked: list[tuple[str, ...]] = []
        self.answered: list[tuple[str, ...]] = []
        self.keys: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.met: Counter[str] = Counter()
        self.tell: Callable[[list[str], list[str]], str] = lambda offered, _: "::".join(offered[:2])
        self.status: tuple[int, str] | None = None
        self.dice = random.Random(7)
        self.lock = threading.Lock()
        self.slow = 1.0
        self.http = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Bound", (_Handler,), {"server_of_test": self})
        )
        self.http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def draw(self) -> str:
        """The next fault, or nothing."""
        with self.lock:
            fault = self.dice.choice(self.faults) if self.dice.random() < self.share else ""
            self.met[fault] += 1
            return fault

    def speak(self, turns: list[dict[str, str]], fault: str) -> str:
        """A model's words."""
        prompt = turns[1]["content"]
        history, _, rest = prompt.partition("CANDIDATES")
        offered, known = (re.findall(r"^\[([^]]+)\]", text, re.MULTILINE) for text in (rest, history))
        good = self.tell(offered, known)
        if not fault or fault in self.HTTP:
            return good
        return {
            "prose": f"I would say that the user likes [{offered[0]}] and dislikes the other one.",
            "empty": "",
            "outside": f"999999::{offered[0]}",
            "twice": f"{offered[0]}::{offered[0]}",
            "history": f"{known[0]}::{offered[0]}",
            "two pairs": f"{good}\n{offered[-1]}::{offered[0]}",
            "broken": f'{{"favourite": "{offered[0]}", "least": "{offered[1]}',
        }[fault]


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, *address: Any) -> None:
        """Clients that are killed, or that give up, leave broken connections."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(*address)


class _Handler(BaseHTTPRequestHandler):
    server_of_test: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        test = self.server_of_test
        if not (sent := self.rfile.read(int(self.headers["content-length"]))):
            return  # the client was killed
        body = json.loads(sent)
        turns = body["messages"]
        prompt = tuple(turn["content"] for turn in turns)
        fault = test.draw()
        with test.lock:
            test.asked.append(prompt)
            test.bodies.append(body)
            test.keys.append(self.headers.get("authorization", ""))
        if test.status is not None:
            self.send(test.status[0], test.status[1].replace("KEY", test.keys[-1]).encode())
        elif fault in ("429", "500"):
            self.send(int(fault), b'{"error": {"message": "later"}}', wait="5")
        elif fault == "no JSON":
            self.send(200, b'{"id": "x", "choi')
        elif fault == "no choices":
            self.send(200, b'{"id": "x", "choices": []}')
        else:
            if fault == "slow":
                time.sleep(test.slow)
            self.reply(test.speak(turns, fault), prompt, cut=fault == "cut")

    def reply(self, text: str, prompt: tuple[str, ...], *, cut: bool) -> None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        data = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        body = json.dumps({**data, "usage": usage}).encode()
        try:
            self.send(200, body, size=len(body) // 2 if cut else None)
            if not cut:
                with self.server_of_test.lock:
                    self.server_of_test.answered.append(prompt)
        except OSError:
            pass  # the client gave up on a slow reply

    def send(self, status: int, body: bytes, *, size: int | None = None, wait: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        if wait:
            self.send_header("retry-after-ms", wait)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:size])
        if size is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

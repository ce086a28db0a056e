"""Language models behind any OpenAI-compatible endpoint, by the official client.

The client sends failed requests again by itself, with growing pauses (status 408, 409, 429, 5xx, time-outs,
cut connections). The key is read from `OPENAI_API_KEY` when requests begin; it is kept in no object of ours,
no file, and no error.
"""

import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.oracle.backend import (
    NO_ANSWER,
    Call,
    Reply,
    Result,
    Results,
    Silence,
    Take,
    prompt_tokens,
    text_tokens,
)
from recbole_llmgraph.oracle.cost import Usage
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.template import Template

if TYPE_CHECKING:
    from openai import OpenAI

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
#: Times that a reply which is no chat completion at all is asked for again.
BODY_TRIES = 5
#: Characters of a reply that are kept.
KEEP_LIMIT = 100_000
SEED = 0


class EndpointBackend:
    """Chat completions with several requests under way.

    Args:
        model: the endpoint's name of it.
        options: endpoint, concurrency, retries, prices, further fields of a request.

    Raises:
        UserError: when the client is not installed.
    """

    is_llm = True
    keeps = True
    parallel = True

    def __init__(self, model: str, options: OracleOptions) -> None:
        _need_client()
        if "@" in urlsplit(options.base_url or "").netloc:
            # not quoted here either
            raise UserError("base_url: settings are written into runs, so it may hold no password")
        self.model = model
        self.options = options
        self.label = f"openai {model}"
        # Not the port: a server started again on another one is the same.
        self.identity = f"openai:{model}@{urlsplit(self._url()).hostname}"
        self.decoding: Mapping[str, Any] = {
            "temperature": 0, "seed": SEED, "structured": options.structured, **options.parameters,
        }  # fmt: skip
        self.price = options.price()

    def check_key(self) -> None:
        """Raise a `UserError` when there is no key for OpenAI's own endpoint."""
        if not os.environ.get(KEY) and self._url() == OPENAI:
            raise UserError(f"openai:{self.model} needs a key: set the environment variable {KEY}")

    def most_tokens(self, form: Template) -> int:
        """Tokens that a reply may have; `parameters` may allow more, for models that reason first."""
        given = self.options.parameters
        return int(given.get("max_completion_tokens") or given.get("max_tokens") or form.max_tokens)

    def work(self, take: Take) -> Results:
        """Keep `concurrency` requests under way and yield replies as they arrive.

        Raises:
            UserError: when the endpoint refuses key or model, after everything under way has come back.
        """
        inbox: SimpleQueue[Call | None] = SimpleQueue()
        outbox: SimpleQueue[Result | Exception] = SimpleQueue()
        client, running, threads = self._client(), 0, 0
        refused: Exception | None = None
        try:
            while True:
                while running < self.options.concurrency and refused is None and (call := take()) is not None:
                    if threads == running:
                        # Not a pool's: its threads would hold up the end of a process that is interrupted.
                        Thread(target=self._serve, args=(client, inbox, outbox), daemon=True).start()
                        threads += 1
                    inbox.put(call)
                    running += 1
                if not running:
                    break
                arrived = _arrived(outbox)
                running -= len(arrived)
                refused = next((one for one in arrived if isinstance(one, Exception)), refused)
                yield [one for one in arrived if not isinstance(one, Exception)]
        finally:
            client.close()
            for _ in range(threads):
                inbox.put(None)
        if refused is not None:
            raise refused

    def _serve(self, client: "OpenAI", inbox: "SimpleQueue[Call | None]", outbox: "SimpleQueue[Any]") -> None:
        """A thread: call in, result out."""
        while (call := inbox.get()) is not None:
            try:
                outbox.put((call, self._ask(client, call)))
            except Exception as error:  # a fault of ours must reach the user, not end a thread silently
                outbox.put(error)

    def _ask(self, client: "OpenAI", call: Call) -> Reply | Silence:
        import openai

        started, retries = time.monotonic(), 0
        for _ in range(BODY_TRIES):
            try:
                response = client.chat.completions.with_raw_response.create(**self._request(call))
                retries += response.retries_taken
                text, counted = _read(response.parse())
            except (json.JSONDecodeError, _GarbledError):
                retries += 1
                continue
            except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
                raise self._refused(error.status_code) from None
            except openai.APIError as error:
                return Silence(self._told(error), Usage(retries=self.options.retries))
            tokens_in, tokens_out = counted or (prompt_tokens(call), text_tokens(text))
            return Reply(text, Usage(1, retries, tokens_in, tokens_out, time.monotonic() - started))
        return Silence(f"{NO_ANSWER}: the replies are no chat completions", Usage(retries=retries))

    def _request(self, call: Call) -> dict[str, Any]:
        form = call.template
        ours: dict[str, Any] = {"temperature": 0, "seed": SEED, "max_tokens": form.max_tokens}
        if self.options.structured and form.answer_schema:
            schema = {"name": form.task, "schema": form.answer_schema}
            ours["response_format"] = {"type": "json_schema", "json_schema": schema}
        given = self.options.parameters
        return {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.text} for message in call.messages],
            **{name: value for name, value in ours.items() if name not in given},
            "extra_body": {name: value for name, value in given.items() if value is not None},
        }

    def _client(self) -> "OpenAI":
        from openai import OpenAI

        return OpenAI(
            api_key=os.environ.get(KEY) or "none",  # a server of one's own may want none
            base_url=self._url(),
            timeout=self.options.timeout,
            max_retries=self.options.retries,
        )

    def _url(self) -> str:
        return self.options.base_url or os.environ.get(URL) or OPENAI

    def _refused(self, status: int) -> UserError:
        """What a user can mend at once. The server's own words are not quoted: some repeat the key."""
        host = urlsplit(self._url()).hostname
        if status == 404:
            return UserError(f"{host} knows no model '{self.model}' (404); check openai:<model> and base_url")
        return UserError(f"{host} refused the key ({status}); check {KEY} and what it may use")

    def _told(self, error: Exception) -> str:
        """First words of an error, whatever it repeats of the key taken out."""
        text = " ".join(str(error).split())
        if key := os.environ.get(KEY):
            text = text.replace(key, "[key]")
        return f"{NO_ANSWER}: " + re.sub(r"(?i)bearer\s+\S+", "[key]", text)[:200]


def _arrived(outbox: "SimpleQueue[Result | Exception]") -> list[Result | Exception]:
    """Wait for a result, and take what else is there."""
    found = [outbox.get()]
    with suppress(Empty):
        while True:
            found.append(outbox.get_nowait())
    return found


class _GarbledError(Exception):
    """A reply that is no chat completion."""


def _read(completion: Any) -> tuple[str, tuple[int, int] | None]:
    """Text and token counts (prompt, reply) of a chat completion; None where they are not reported."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise _GarbledError
    content = getattr(getattr(choices[0], "message", None), "content", None)
    if content is not None and not isinstance(content, str):
        raise _GarbledError
    # JSON can spell half of a surrogate pair, which no file can hold.
    text = (content or "")[:KEEP_LIMIT].encode("utf-8", "replace").decode()
    usage = getattr(completion, "usage", None)
    sent: Any = getattr(usage, "prompt_tokens", None)
    said: Any = getattr(usage, "completion_tokens", None)
    if _is_count(sent) and _is_count(said):
        return text, (sent, said)
    return text, None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


def _need_client() -> None:
    try:
        import openai  # noqa: F401
    except ModuleNotFoundError:
        raise UserError("openai: needs the official client; type: pip install openai") from None

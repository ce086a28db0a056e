"""Which back-end a specification means.

| specification | who answers |
|---|---|
| `heuristic` | arithmetic on vectors of items; not a language model |
| `openai:<model>` | any OpenAI-compatible endpoint |
| `hf:path:<folder>`, `hf:hub:<id>[@revision]` | a causal language model in this process |
| `replay:<file>` | recorded answers |
"""

from collections.abc import Sequence
from pathlib import Path

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.oracle.backend import Backend
from recbole_llmgraph.oracle.cache import ReplyCache
from recbole_llmgraph.oracle.endpoint import EndpointBackend
from recbole_llmgraph.oracle.heuristic import HeuristicBackend
from recbole_llmgraph.oracle.local import LocalBackend
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.oracle import Oracle
from recbole_llmgraph.oracle.questions import Item
from recbole_llmgraph.oracle.replay import ReplayBackend
from recbole_llmgraph.oracle.vectors import ItemVectors, text_vectors

KNOWN = "heuristic, openai:<model>, hf:path:<folder>, hf:hub:<id>[@revision], replay:<file>"


def open_oracle(
    spec: str,
    *,
    cache: Path,
    items: Sequence[Item] = (),
    vectors: ItemVectors | None = None,
    options: OracleOptions | None = None,
    asking: bool = True,
) -> Oracle:
    """The oracle that `spec` names.

    Args:
        spec: see the table above.
        cache: file of kept replies; made when needed.
        items: all items of the dataset: their text and details are what the heuristic knows.
        vectors: other vectors for the heuristic.
        options: limits, prices, endpoint.
        asking: look at once for the key that requests need; identities and estimates need none.

    Raises:
        UserError: when the specification is unknown, or what it names is not to be had.
    """
    options = options or OracleOptions()
    backend = _backend(spec, items, vectors, options)
    if asking and isinstance(backend, EndpointBackend):
        backend.check_key()
    return Oracle(backend, ReplyCache(cache), options)


def _backend(
    spec: str, items: Sequence[Item], vectors: ItemVectors | None, options: OracleOptions
) -> Backend:
    kind, _, rest = spec.partition(":")
    if spec == "heuristic":
        if vectors is None and not items:
            raise ValueError("the heuristic needs the dataset's items, or vectors of them")
        return HeuristicBackend(vectors or text_vectors(items), items)
    if kind == "openai" and rest:
        return EndpointBackend(rest, options)
    if kind == "hf" and rest:
        return LocalBackend(rest, options)
    if kind == "replay" and rest:
        return ReplayBackend(Path(rest).expanduser(), strict=options.strict)
    raise UserError(f"no oracle '{spec}'. Known: {KNOWN}.")

"""Money: what a call may cost at most is set aside before it is made."""

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.oracle.backend import Backend, Call, prompt_tokens
from recbole_llmgraph.oracle.cache import ReplyCache


class BudgetError(UserError):
    """The next call could exceed `max_cost`; everything answered is kept."""


class Budget:
    """A limit on the money of one cache's file, over all runs and processes that use it.

    Args:
        limit: US dollars; None for no limit.
        backend: knows the price of its tokens.
        cache: knows what was spent.
    """

    def __init__(self, limit: float | None, backend: Backend, cache: ReplyCache) -> None:
        self._limit, self._price, self._cache = limit, backend.price, cache
        self._most_tokens = backend.most_tokens
        self._reserved: dict[str, float] = {}

    def reserve(self, key: str, call: Call) -> bool:
        """Set aside what a call may cost; False when the limit does not allow it."""
        if self._limit is None or self._price is None:
            return True
        most = self._price.of(prompt_tokens(call), self._most_tokens(call.template))
        if self._cache.spent() + sum(self._reserved.values()) + most > self._limit:
            return False
        self._reserved[key] = most
        return True

    def release(self, key: str) -> None:
        """The call came back; what it cost is in the cache."""
        self._reserved.pop(key, None)

    def spent(self, settled: int, wanted: int) -> BudgetError:
        """What stops the run."""
        return BudgetError(
            f"stopped at {self._cache.spent():.4f} of max_cost={self._limit} US dollars: {settled} of "
            f"{wanted} questions are answered and kept; raise max_cost and type the same again to go on"
        )

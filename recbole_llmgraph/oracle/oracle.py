"""The oracle: questions in, checked answers out, whoever answers."""

from collections.abc import Sequence

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import track
from recbole_llmgraph.oracle.answers import Answer
from recbole_llmgraph.oracle.backend import Backend, digest
from recbole_llmgraph.oracle.cache import ReplyCache
from recbole_llmgraph.oracle.cost import TaskCost
from recbole_llmgraph.oracle.estimate import Estimate, estimate
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.questions import Question, Task
from recbole_llmgraph.oracle.sitting import Sitting
from recbole_llmgraph.oracle.template import template


class Oracle:
    """Asks one back-end, through one cache.

    Args:
        backend: who answers.
        cache: replies that are there already, and where new ones go.
        options: limits on validity and money.
    """

    def __init__(self, backend: Backend, cache: ReplyCache, options: OracleOptions | None = None) -> None:
        self.backend = backend
        self.cache = cache
        self.options = options or OracleOptions()
        self._costs: dict[str, TaskCost] = {}
        self._counted: set[str] = set()
        if self.options.max_cost is not None and backend.keeps and backend.price is None:
            raise UserError(
                "max_cost needs prices: set price_in and price_out in oracle_options, US$ a million tokens"
            )

    @property
    def label(self) -> str:
        """Who answers, as reports print it: `openai gpt-4o-mini`, `heuristic (not an LLM)`."""
        return self.backend.label

    @property
    def is_llm(self) -> bool:
        """Whether a language model answers."""
        return self.backend.is_llm

    def identity(self, *tasks: Task) -> str:
        """What decides the answers to these tasks, for keys: model, revision, decoding, template versions."""
        names = [template(task) for task in tasks]
        forms = ",".join(form.name for form in names)
        decoding = digest([dict(self.backend.decoding), [form.max_tokens for form in names]])[:8]
        return f"{self.backend.identity}/{decoding}/{forms}"

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order; equal questions are asked once.

        What a model says counts only when it passes the task's check; it may repair a rejected answer once,
        then the task's fallback answers, labelled so. Replies are kept one by one: a run that is killed
        or stopped asks for the rest when it is started again.

        Raises:
            InvalidAnswersError: when too few answers are valid (`min_valid`).
            BudgetError: when the next call could exceed `max_cost`.
            UserError: when the back-end cannot be used at all.
        """
        sitting = Sitting(questions, self.backend, self.cache, self.options, self._counted)
        what = f"oracle {self.label}"
        try:
            with self.cache.held():
                for _ in track(sitting.settle(), what, total=len(questions), unit="question"):
                    pass
        finally:
            for name, row in sitting.costs.items():
                self._costs[name] = self._costs.get(name, TaskCost(name)) + row
        return sitting.answers()

    def estimate(self, questions: Sequence[Question]) -> list[Estimate]:
        """What the questions would cost, one row a template; asks nothing (a dry run)."""
        return estimate(questions, self.backend, self.cache)

    def costs(self) -> list[TaskCost]:
        """One row a template: what was asked through this object so far, and what it cost."""
        return [self._costs[name] for name in sorted(self._costs)]

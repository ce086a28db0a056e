"""What a user may set on an oracle."""

from typing import Any, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from recbole_llmgraph.base.settings import Settings
from recbole_llmgraph.oracle.cost import Price

#: Fields of a request that are ours alone.
RESERVED = {"model", "messages", "stream", "n", "response_format"}


class OracleOptions(Settings):
    """Options of `open_oracle`; none of them holds a key, which comes from the environment alone."""

    min_valid: float = Field(default=0.9, ge=0, le=1)
    """Share of questions that must have a valid answer; below it the run stops. 0 accepts everything."""
    max_cost: PositiveFloat | None = None
    """US dollars that all replies in the cache's file may have cost together."""
    price_in: NonNegativeFloat | None = None
    """US dollars for a million tokens of prompts."""
    price_out: NonNegativeFloat | None = None
    """US dollars for a million tokens of replies."""
    base_url: str | None = None
    """Endpoint of `openai:`; without it `OPENAI_BASE_URL`, else OpenAI's own."""
    concurrency: PositiveInt = 8
    """Requests under way at once."""
    timeout: PositiveFloat = 120.0
    """Seconds to wait for a reply before the request is sent again."""
    retries: int = Field(default=8, ge=0)
    """Times that a failed request is sent again, with growing pauses."""
    structured: bool = False
    """Let the endpoint hold answers to a JSON schema where the template has one."""
    parameters: dict[str, Any] = {}
    """Further fields of a request, e.g. `{"reasoning_effort": "low"}`; null removes one of ours."""
    batch: PositiveInt = 16
    """Prompts that `hf:` reads at once."""
    strict: bool = True
    """Whether a question without a recorded answer stops `replay:`."""

    @field_validator("parameters")
    @classmethod
    def _free(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(RESERVED & set(parameters)):
            raise ValueError(f"'{taken[0]}' is set by the suite")
        return parameters

    @model_validator(mode="after")
    def _both_prices(self) -> Self:
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("price_in and price_out go together")
        return self

    def price(self) -> Price | None:
        """Price of tokens, when both are given."""
        if self.price_in is None or self.price_out is None:
            return None
        return Price(self.price_in, self.price_out)

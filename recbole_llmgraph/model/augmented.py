"""Settings of models that may learn from an oracle's edges beside the ratings."""

from typing import Any

from pydantic import Field, field_validator

from recbole_llmgraph.model.needs import Need, OracleEdges
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.train.settings import TrainSettings

#: Who picks edges: nobody, a rule, a control, or a language model by a specification of `oracle/`.
KNOWN = ("off", "heuristic", "random", "popularity", "random-candidates", "popularity-candidates")
MODELS = ("hf:", "openai:", "replay:")


class AugmentedSettings(TrainSettings):
    """Settings of a model that takes edges."""

    oracle: str = "off"
    """Who picks a favourite and a least favourite among each user's candidates."""
    edge_fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the users who get edges."""
    oracle_options: dict[str, Any] = {}
    """Options of the oracle, e.g. `{max_cost: 5}` (`oracle/options.py`); keys come from the environment."""
    edges: str = ""
    """File of edges; the suite fills it."""

    @field_validator("oracle", mode="before")
    @classmethod
    def _known(cls, oracle: Any) -> Any:
        """A known name, or a language model; yaml reads a bare `off` as false."""
        if oracle is False:
            return "off"
        if isinstance(oracle, str) and not (oracle in KNOWN or oracle.startswith(MODELS)):
            raise ValueError(f"expected one of {', '.join(KNOWN)}, or {', '.join(f'{m}…' for m in MODELS)}")
        return oracle

    @field_validator("oracle_options")
    @classmethod
    def _options(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Options that the oracle knows."""
        OracleOptions.read(options, "oracle_options")
        return options


def edge_needs(settings: AugmentedSettings) -> list[Need]:
    """The edges, unless they are off."""
    if settings.oracle == "off":
        return []
    return [OracleEdges("edges", settings.oracle, settings.edge_fraction, settings.oracle_options)]

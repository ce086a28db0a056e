"""RecBole's model classes, as the rest of the suite sees them."""

from collections.abc import Mapping
from typing import Any, TypeVar

from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender
from recbole.utils import InputType

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.settings import Settings

__all__ = ["GeneralRecommender", "InputType", "SequentialRecommender", "read_settings"]

S = TypeVar("S", bound=Settings)
#: Settings that only a trainer reads; RecBole's has values (MRR@10, its default; sgd) that ours has not.
_TRAINERS_OWN = {"valid_metric", "learner"}


def read_settings(kind: type[S], config: Any) -> S:
    """A model's settings out of RecBole's `Config`; what the config does not name keeps its default.

    This is the road of a user's own RecBole script; the suite takes the same one.
    """
    values: Mapping[str, Any] = config.final_config_dict
    known = {name: values[name] for name in kind.model_fields if values.get(name) is not None}
    clip = known.get("clip_grad_norm")
    if isinstance(clip, dict):  # RecBole's form: {'max_norm': 5}
        known["clip_grad_norm"] = float(clip.get("max_norm", 0.0))
    for name in _TRAINERS_OWN & known.keys():
        if not _fits(kind, name, known[name]):
            del known[name]
    return kind.read(known)


def _fits(kind: type[Settings], name: str, value: Any) -> bool:
    try:
        kind.read({name: value})
    except UserError:
        return False
    return True


def config_values(settings: Settings) -> dict[str, Any]:
    """The reverse: settings as config keys, in RecBole's form where it has its own."""
    values = settings.model_dump()
    clip = values.get("clip_grad_norm", 0.0)
    values["clip_grad_norm"] = {"max_norm": clip} if clip else None
    if "max_history" in values:
        values["MAX_ITEM_LIST_LENGTH"] = values["max_history"]
    return values

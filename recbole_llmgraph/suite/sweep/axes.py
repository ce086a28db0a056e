"""Axes of a sweep: settings and the values to try, from `search_space` beside a model or from the user.

`--axis tau` takes the declared ticks, `--axis tau=0.1,0.5` its own, `--axis tau=0.1..1` a range to draw
from, and `--axis 'alpha*beta'` crosses two axes. `--axis HeLLMPre.tau` sweeps a stage's setting.
"""

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from recbole_llmgraph.base.errors import UserError, unknown
from recbole_llmgraph.model.catalogue import ModelCard, model_card
from recbole_llmgraph.store.trials import Point
from recbole_llmgraph.suite.options import number
from recbole_llmgraph.train.settings import TrainSettings

#: A range that spans at least this factor is drawn from on a log scale.
LOG_FACTOR = 10.0


@dataclass(frozen=True)
class Axis:
    """One setting and what to try for it.

    Attributes:
        owner: model whose setting it is: the swept one, or a stage that it stands on.
        name: the setting.
        label: `tau`, or `HeLLMPre.tau` for a stage's.
        ticks: values, validated; of a range its two ends.
        ranged: draw from between two ends.
        whole: a range of whole numbers.
    """

    owner: str
    name: str
    label: str
    ticks: tuple[Any, ...]
    ranged: bool = False
    whole: bool = False

    @property
    def log(self) -> bool:
        """Whether a range is drawn from on a log scale."""
        low, high = self.ticks[0], self.ticks[-1]
        return self.ranged and low > 0 and high / low >= LOG_FACTOR

    def told(self) -> str:
        """`tau {0.1, 0.5}` or `tau 0.1 … 1 (log)`."""
        if self.ranged:
            return f"{self.label} {self.ticks[0]:g} … {self.ticks[1]:g}{' (log)' if self.log else ''}"
        return f"{self.label} {{{', '.join(map(str, self.ticks))}}}"


#: Axes of one panel: one for a curve, two for a heat map.
Panel = tuple[Axis, ...]


def declared(card: ModelCard, what: str) -> dict[str, Any]:
    """`search_space` or `ablations` beside a model's class; empty where it declares none."""
    found: dict[str, Any] = getattr(sys.modules[card.load().__module__], what, {})
    return found


def settings_class(card: ModelCard) -> type[TrainSettings]:
    """Class of a model's settings."""
    found: type[TrainSettings] = getattr(card.load(), "settings", TrainSettings)
    return found


def read_panels(texts: Sequence[str], card: ModelCard) -> list[Panel]:
    """Panels in `--axis` options; without any, every declared axis on its own.

    Raises:
        UserError: for an unknown axis, a wrong value or range, or an axis without ticks.
    """
    texts = list(texts) or list(declared(card, "search_space"))
    if not texts:
        raise UserError(f"{card.name} declares no axes; name a setting and values: --axis epochs=5,10")
    panels = [tuple(_axis(part.strip(), card) for part in text.split("*")) for text in texts]
    labels = [axis.label for panel in panels for axis in panel]
    for text, panel in zip(texts, panels, strict=True):
        if len(panel) > 2 or len({axis.label for axis in panel}) < len(panel):
            raise UserError(f"--axis {text}: a panel crosses two different axes at most, as in 'alpha*beta'")
    if len(set(labels)) < len(labels) and all(len(panel) == 1 for panel in panels):
        again = next(label for label in labels if labels.count(label) > 1)
        raise UserError(f"--axis {again}: named twice; list all of its values once, --axis {again}=…")
    return panels


def points(panel: Sequence[Axis]) -> list[Point]:
    """The grid of some axes' ticks, last axis fastest.

    Raises:
        UserError: for a range, which has no ticks.
    """
    for axis in panel:
        if axis.ranged:
            raise UserError(
                f"--axis {axis.label}: a range has no ticks; list values, --axis {axis.label}=a,b,c, "
                "or search it with --for tune --search random"
            )
    return [
        dict(zip((axis.label for axis in panel), values, strict=True))
        for values in itertools.product(*(axis.ticks for axis in panel))
    ]


def _axis(text: str, card: ModelCard) -> Axis:
    label, equals, raw = text.partition("=")
    owner, dot, name = label.rpartition(".")
    owned = model_card(owner) if dot else card
    space, kind = declared(owned, "search_space"), settings_class(owned)
    if name not in kind.model_fields:
        hint = f"Axes: {', '.join(space)}; any other setting takes values, --axis epochs=5,10."
        raise unknown(f"axis of {owned.name}", name, [*space, *kind.model_fields], hint)
    if owned.name == card.name:
        label = name
    if not equals:
        if name not in space:
            raise UserError(
                f"--axis {label}: {owned.name} declares no ticks for it; write --axis {label}=a,b,c"
                + (f" (declared axes: {', '.join(space)})" if space else "")
            )
        return Axis(owned.name, name, label, _validated(space[name], owned, name))
    if ".." in raw:
        return _range(raw, owned, name, label)
    values = [_value(part, label) for part in raw.split(",") if part.strip()]
    if not values:
        raise UserError(f"--axis {text}: no values; write --axis {label}=a,b,c")
    return Axis(owned.name, name, label, _validated(values, owned, name))


def _range(raw: str, card: ModelCard, name: str, label: str) -> Axis:
    """`0.1..1`: two numbers, the lower one first."""
    ends = [_value(part, label) for part in raw.split("..")]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if len(ends) != 2 or not numbers or ends[0] >= ends[1]:
        raise UserError(f"--axis {label}={raw}: a range is two numbers, low..high, such as 0.1..1")
    whole = settings_class(card).model_fields[name].annotation is int
    return Axis(card.name, name, label, _validated(ends, card, name), ranged=True, whole=whole)


def _value(raw: str, label: str) -> Any:
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError:
        raise UserError(f"--axis {label}: '{raw}' is not a value") from None
    value = number(value) if isinstance(value, str) else value
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--axis {label}: '{raw}' is not a finite number")
    return value


def _validated(values: Sequence[Any], card: ModelCard, name: str) -> tuple[Any, ...]:
    """Values as the model's settings understand them, each once."""
    kind = settings_class(card)
    read = [getattr(kind.read({name: value}, card.name), name) for value in values]
    return tuple(value for place, value in enumerate(read) if value not in read[:place])

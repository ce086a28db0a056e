"""The command-line contract that every command shares."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data.catalogue import dataset_card, dataset_cards
from recbole_llmgraph.model.catalogue import PRESETS, ModelCard, model_card, model_cards

#: Runs that came with the checkout.
COMMITTED = Path("reports/runs")


def names(text: str) -> list[str]:
    """`a,b,c` -> list, empty parts dropped."""
    return [part.strip() for part in text.split(",") if part.strip()]


def seeds(text: str) -> list[int]:
    """`1,2,3` -> list of seeds.

    Raises:
        UserError: for anything but whole numbers that every generator takes.
    """
    parts = names(text)
    if not parts or not all(part.isdecimal() and int(part) < 2**32 for part in parts):
        raise UserError(f"--seeds {text}: expected whole numbers from 0 to {2**32 - 1}, such as 1,2,3")
    return [int(part) for part in parts]


class Parser(argparse.ArgumentParser):
    """A parser that takes whole names only, and whose complaints are one line."""

    def __init__(self, doc: str) -> None:
        """Args: the command's docstring: a line on what it does, a blank line, examples."""
        summary, _, examples = doc.partition("\n\n")
        super().__init__(
            description=summary,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise what the command prints; argparse would print its usage and exit."""
        raise UserError(f"{message} (see --help)")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of every command that trains or plans."""
    parser.add_argument("--model", type=names, default=[], help="models, comma list; or package.module:Class")
    parser.add_argument("--dataset", type=names, default=[], help="datasets, comma list; or a card.yaml")
    parser.add_argument("--seeds", type=str, default="1", help="seeds, comma list (default: 1)")
    parser.add_argument(
        "--preset", choices=PRESETS, default="standard", help="budget and backbones (default: standard)"
    )
    parser.add_argument(
        "--protocol",
        help="seq, rate (rate@2: another draw) or sign (sign@1: no released test part); default: the model's",
    )
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="[Model.]KEY=VALUE", help="repeatable"
    )
    parser.add_argument("--store", type=Path, default=Path("runs"), help="folder of runs (default: runs/)")
    parser.add_argument("--data", type=Path, help="prepared data (default: $RECBOLE_LLMGRAPH_DATA or data/)")
    parser.add_argument("--source", type=Path, help="folder of raw files, looked into before any download")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--max-cost", type=float, metavar="USD", help="an oracle's replies may cost so much")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would run and its stages; train nothing"
    )
    parser.add_argument("--list-models", action="store_true")
    parser.add_argument("--list-datasets", action="store_true")
    parser.add_argument("--describe", metavar="NAME", help="all about a model or dataset")


def read_sets(sets: Sequence[str], models: Sequence[ModelCard]) -> dict[str, dict[str, Any]]:
    """`--set` options by model; a key without a model goes to every named model.

    Raises:
        UserError: for text without `=`, or an unknown model.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in sets:
        name, equals, raw = text.partition("=")
        if not equals or not name:
            raise UserError(f"--set {text}: expected KEY=VALUE or Model.KEY=VALUE")
        owner, dot, key = name.rpartition(".")
        targets = [model_card(owner).name] if dot else [card.name for card in models]
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError:
            raise UserError(f"--set {text}: '{raw}' is not a value") from None
        if isinstance(value, bool) and raw.lower() not in ("true", "false"):
            value = raw  # `off` is a word that some settings know; those of yes and no read it too
        if isinstance(value, str):
            value = number(value)
        for target in targets:
            found.setdefault(target, {})[key] = value
    return found


def number(text: str) -> Any:
    """`1e-3` is text to yaml 1.1; users mean a number. Other text stays."""
    try:
        return float(text)
    except ValueError:
        return text


def listing(arguments: argparse.Namespace) -> str | None:
    """Text of `--list-models`, `--list-datasets` or `--describe`; None when none was asked for."""
    if arguments.list_models:
        cards = model_cards().values()
        return "\n".join(f"{card.name:<12} {card.kind:<10} {card.summary}" for card in cards)
    if arguments.list_datasets:
        return "\n".join(f"{card.name:<12} {card.title}" for card in dataset_cards())
    if arguments.describe:
        return describe(arguments.describe)
    return None


def describe(name: str) -> str:
    """All about a model or a dataset.

    Raises:
        UserError: when neither knows the name.
    """
    if name in model_cards():
        return describe_model(model_cards()[name])
    if any(name in card.names for card in dataset_cards()):
        card = dataset_card(name)
        facts = card.model_dump(exclude={"sources"})
        return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True).strip()
    return describe_model(model_card(name))


def describe_model(card: ModelCard) -> str:
    """Card, docstring of the model's module (paper, equations, deviations) and its settings."""
    from recbole_llmgraph.train.settings import TrainSettings

    kind = card.load()
    lines = [f"{card.name}: {card.summary}"]
    if card.paper:
        lines.append(f"  {card.paper.title} ({card.paper.venue} {card.paper.year}) {card.paper.url}")
    told = (sys.modules[kind.__module__].__doc__ or "").strip()
    lines += ["", told, "", "Settings (default of the class; presets and datasets change it, see below):"]
    for key, field in getattr(kind, "settings", TrainSettings).model_fields.items():
        lines.append(f"  {key:<20} {field.default!r}")
    for what, title in (("search_space", "Axes (sweep.py --axis)"), ("ablations", "Variants (ablate.py)")):
        declared = getattr(sys.modules[kind.__module__], what, {})
        lines += ["", f"{title}:", *(f"  {name:<20} {values}" for name, values in declared.items())]
    lines.append("")
    for preset in PRESETS:
        lines.append(f"preset {preset}: {card.presets.get(preset, {})}")
    for name, changes in card.datasets.items():
        lines += [f"on {name}, {preset}: {values}" for preset, values in changes.items()]
    lines.append(f"protocols: {', '.join(card.runs_under)}")
    return "\n".join(lines)

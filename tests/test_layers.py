"""Imports point only downward, read from the code's own imports; and who may import what from outside."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "recbole_llmgraph"
#: Top to bottom. A layer may import itself and what stands below it.
ORDER = [
    "benchmarks",
    "suite",
    "report",
    "store",
    "model",
    "train",
    "artifact",
    "data",
    "host",
    "oracle",
    "lm",
    "graph",
    "loss",
    "base",
]
#: Outside packages and the layers that may import them.
ONLY_IN = {"recbole": {"host"}, "peft": {"lm"}, "ray": {"host", "suite"}, "optuna": {"host", "suite"}}
#: Times RecBole's plain path beside ours, so it must call it.
YARDSTICK = "benchmarks.perf"
#: Layers that must answer without these, so that lists and reports come in under a second.
LIGHT = {"report": ("torch", "recbole"), "store": ("torch", "recbole"), "base": ("torch", "recbole")}
#: The package's own front door offers models to a user's script; it stands outside the order.
FRONT = PACKAGE


def imported(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a file, at any depth, relative ones resolved.

    `from a import b` gives `a.b`; `import_module("a.b")` counts as an import of `a.b`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *([base] if base else [])])
            yield from ((node.lineno, f"{base}.{name.name}") for name in node.names)
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def layer_of(dotted: str) -> str | None:
    """The layer of a module of ours; None for outside packages; the front door for itself."""
    parts = dotted.split(".")
    if parts[0] == "benchmarks":
        return "benchmarks"
    if parts[0] != PACKAGE:
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ORDER else FRONT


def modules(root: Path) -> Iterator[tuple[Path, str]]:
    """Every python file of the package and the commands, with its dotted name."""
    for top in (PACKAGE, "benchmarks"):
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield path, ".".join(parts)


def faults(root: Path) -> list[str]:
    """One line for every import that points upward or belongs to another layer."""
    found = []
    for path, module in modules(root):
        here = layer_of(module)
        for line, name in imported(ast.parse(path.read_text(encoding="utf-8")), module):
            where = f"{path.relative_to(root)}:{line}"
            there = layer_of(name)
            if there is None:
                outside = name.split(".")[0]
                if here not in ONLY_IN.get(outside, {here}) and not module.startswith(YARDSTICK):
                    found.append(f"{where}: {here}/ imports {outside}")
                if outside in LIGHT.get(str(here), ()):
                    found.append(f"{where}: {here}/ imports {outside}")
            elif here == FRONT:
                continue
            elif there == FRONT:
                if name.removeprefix(FRONT + ".") not in {"__version__", FRONT}:
                    found.append(f"{where}: {here}/ imports the front door ({name})")
            elif ORDER.index(there) < ORDER.index(str(here)):
                found.append(f"{where}: {here}/ imports {there}/, which stands above it")
    return found


def test_imports_point_downward() -> None:
    assert not faults(ROOT), "\n".join(faults(ROOT))


def test_every_folder_is_a_layer() -> None:
    folders = {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}
    assert folders <= set(ORDER), folders - set(ORDER)
    assert {"base", "host", "model", "suite"} <= folders


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("graph/bad.py", "from recbole_llmgraph.suite.cell import Cell", "graph/ imports suite/"),
        ("graph/bad.py", "from recbole_llmgraph import train", "graph/ imports train/"),
        ("lm/bad.py", "def f():\n    import recbole_llmgraph.model.hellm", "lm/ imports model/"),
        ("lm/bad.py", "from ..host import config", "lm/ imports host/"),
        ("lm/bad.py", "from .. import host", "lm/ imports host/"),
        (
            "loss/bad.py",
            "m = importlib.import_module('recbole_llmgraph.data.catalogue')",
            "loss/ imports data/",
        ),
        ("model/bad.py", "def f():\n    from recbole.model import loss", "model/ imports recbole"),
        ("suite/bad.py", "import recbole", "suite/ imports recbole"),
        ("report/bad.py", "import torch.nn", "report/ imports torch"),
        ("../benchmarks/bad.py", "import recbole", "benchmarks/ imports recbole"),
        ("host/bad.py", "import benchmarks.run", "host/ imports benchmarks/"),
        ("data/bad.py", "from recbole_llmgraph import HeLLM", "data/ imports the front door"),
    ],
)
def test_a_bad_module_is_found(tmp_path: Path, file: str, text: str, says: str) -> None:
    bad = tmp_path / PACKAGE / file
    bad.parent.mkdir(parents=True)
    bad.write_text(text + "\n")
    assert [fault for fault in faults(tmp_path) if says in fault], faults(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("../benchmarks/perf/good.py", "from recbole.trainer import Trainer"),
        ("host/good.py", "import recbole\nimport torch\nfrom recbole_llmgraph.base.errors import UserError"),
        ("suite/good.py", "import recbole_llmgraph\nfrom recbole_llmgraph import __version__"),
        ("__init__.py", "def __getattr__(name):\n    from recbole_llmgraph.model import hellm"),
    ],
)
def test_a_good_module_passes(tmp_path: Path, file: str, text: str) -> None:
    good = tmp_path / PACKAGE / file
    good.parent.mkdir(parents=True)
    good.write_text(text + "\n")
    assert faults(tmp_path) == []


def loaded_after(importing: list[str]) -> set[str]:
    """Top-level packages in memory after a fresh interpreter has imported these modules."""
    code = "import sys\n" + "".join(f"import {name}\n" for name in importing)
    code += "print('\\n'.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=300
    )
    return set(done.stdout.split())


def names_in(layer: str) -> list[str]:
    return [name.removesuffix(".__init__") for _, name in modules(ROOT) if layer_of(name) == layer]


@pytest.mark.parametrize(
    "importing",
    [
        pytest.param(names_in("report") + names_in("store") + names_in("base"), id="report, store and base"),
        pytest.param([f"{PACKAGE}.model.catalogue", f"{PACKAGE}.data.catalogue"], id="the two lists"),
        pytest.param([PACKAGE], id="the front door"),
    ],
)
def test_light_rooms_stay_light(importing: list[str]) -> None:
    assert not {"torch", "recbole", "transformers", "ray"} & loaded_after(importing)


def test_the_light_check_can_fail() -> None:
    assert {PACKAGE, "pydantic"} <= loaded_after([f"{PACKAGE}.base.settings"])

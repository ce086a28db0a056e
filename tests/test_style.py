"""House style that a linter does not know: sizes, stubs, paths of one machine, code that runs data."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE_LINES, FUNCTION_LINES = 400, 50
#: A test may hold a table of cases.
TEST_FUNCTION_LINES = 80
#: Put together here, so that this file does not hold what it forbids.
MACHINE_PATHS = re.compile("(?<![\\w.<>}])/(?:" + "|".join(["work", "tmp", "home", "root", "farm"]) + ")/")
UNFINISHED = re.compile(r"\b(?:NotImplementedError|TODO|FIXME|XXX)\b")
TEXT = {".py", ".yaml", ".yml", ".toml", ".cfg", ".txt", ".md", ".json", ".html", ".sh", ""}


def python_files(*tops: str) -> list[Path]:
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def sizes(path: Path, function_lines: int = FUNCTION_LINES) -> list[str]:
    """Files and functions that are too long."""
    text = path.read_text(encoding="utf-8")
    found = []
    if (lines := text.count("\n")) > FILE_LINES:
        found.append(f"{shown(path)}: {lines} lines, at most {FILE_LINES}")
    for function in functions(ast.parse(text)):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > function_lines:
            found.append(f"{shown(path)}:{function.lineno}: {function.name} has {length} lines")
    return found


def danger(path: Path) -> list[str]:
    """Data that could run as code: eval, exec, pickles, weights loaded as pickles."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = [node.func.id] if node.func.id in {"eval", "exec"} else []
        elif isinstance(node, ast.Import):
            names = [n.name for n in node.names if n.name.split(".")[0] in {"pickle", "dill", "cloudpickle"}]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if node.module in {"pickle", "dill", "cloudpickle"} else []
        elif isinstance(node, ast.keyword):
            value = isinstance(node.value, ast.Constant) and node.value.value
            bad = (node.arg == "weights_only" and value is False) or (node.arg == "allow_pickle" and value)
            names = [str(node.arg)] if bad else []
        found += [f"{shown(path)}:{getattr(node, 'lineno', 0)}: {name}" for name in names]
    return found


def unfinished(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        f"{shown(path)}:{i}: {line.strip()}" for i, line in enumerate(lines, 1) if UNFINISHED.search(line)
    ]


def machine_paths(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        f"{shown(path)}:{i}: {line.strip()[:100]}"
        for i, line in enumerate(lines, 1)
        if MACHINE_PATHS.search(line)
    ]


def undocumented(path: Path) -> list[str]:
    """Public modules, and public functions and classes at their top level, without a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [] if ast.get_docstring(tree) else [f"{shown(path)}: module"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            overload = any(getattr(d, "id", "") == "overload" for d in node.decorator_list)
            if not node.name.startswith("_") and not overload and not ast.get_docstring(node):
                found.append(f"{shown(path)}:{node.lineno}: {node.name}")
    return found


OURS = python_files("recbole_llmgraph", "benchmarks")


def test_sizes() -> None:
    faults = [fault for path in OURS for fault in sizes(path)]
    faults += [fault for path in python_files("tests") for fault in sizes(path, TEST_FUNCTION_LINES)]
    assert not faults, "\n".join(faults)


def test_the_middle_is_small() -> None:
    assert median(path.read_text(encoding="utf-8").count("\n") for path in OURS) <= 150
    lengths = [
        (f.end_lineno or f.lineno) - f.lineno + 1
        for path in OURS
        for f in functions(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert median(lengths) <= 15


def test_nothing_is_unfinished() -> None:
    faults = [fault for path in OURS for fault in unfinished(path)]
    assert not faults, "\n".join(faults)


def test_no_data_runs_as_code() -> None:
    faults = [fault for path in OURS for fault in danger(path)]
    assert not faults, "\n".join(faults)


def test_public_names_are_documented() -> None:
    faults = [fault for path in OURS for fault in undocumented(path)]
    assert not faults, "\n".join(faults)


def test_no_path_of_one_machine() -> None:
    tops = ["recbole_llmgraph", "benchmarks", "properties", "tests", "docs", "reports", ".ci"]
    files = [p for top in tops for p in (ROOT / top).rglob("*") if "__pycache__" not in p.parts]
    files += list(ROOT.glob("*"))
    faults = [fault for p in files if p.is_file() and p.suffix in TEXT for fault in machine_paths(p)]
    assert not faults, "\n".join(faults)


SLASH = "/"


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (sizes, "x = 1\n" * 401),
        (sizes, "def f():\n" + "    x = 1\n" * 50),
        (danger, "x = eval('1')\n"),
        (danger, "import pickle\n"),
        (danger, "from pickle import load\n"),
        (danger, "torch.load(p, weights_only=False)\n"),
        (danger, "numpy.load(p, allow_pickle=True)\n"),
        (unfinished, "def f():\n    raise NotImplementedError\n"),
        (unfinished, "x = 1  # TODO: think\n"),
        (machine_paths, f"p = '{SLASH}work/main/data'\n"),
        (machine_paths, f"p = '{SLASH}tmp/x'\n"),
        (machine_paths, f"see {SLASH}home/me/data\n"),
        (undocumented, "def f():\n    pass\n"),
        (undocumented, '"""Module."""\n\nclass C:\n    x = 1\n'),
    ],
)
def test_a_bad_file_is_found(tmp_path: Path, check, text: str) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(text)
    assert check(bad)


@pytest.mark.parametrize("check", [sizes, danger, unfinished, machine_paths, undocumented])
def test_a_good_file_passes(tmp_path: Path, check) -> None:
    good = tmp_path / "good.py"
    good.write_text('"""Module."""\n\n\ndef f(model):\n    """Switch to evaluation."""\n    model.eval()\n')
    assert check(good) == []

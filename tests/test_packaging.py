"""What is shipped: packages and yaml files, pins, versions, and the commands that the README names."""

import ast
import configparser
import re
import subprocess
import sys
import zipfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import recbole_llmgraph
from recbole_llmgraph.model.catalogue import model_cards

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Imported only where a user asks for them, with an error that names the extra.
CUDA_ONLY = {"bitsandbytes"}


@cache
def setup_cfg() -> configparser.ConfigParser:
    read = configparser.ConfigParser()
    read.read(ROOT / "setup.cfg", encoding="utf-8")
    return read


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def extras() -> dict[str, list[Requirement]]:
    return {
        name: [Requirement(line) for line in lines(text)]
        for name, text in setup_cfg()["options.extras_require"].items()
    }


def requirements() -> list[Requirement]:
    return [Requirement(line) for line in lines(setup_cfg()["options"]["install_requires"])]


def pins() -> dict[str, str]:
    found = (line.partition("==") for line in lines((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    return {canonicalize_name(name): version for name, _, version in found}


def test_every_folder_is_packaged() -> None:
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "recbole_llmgraph").rglob("__init__.py")
    }
    assert set(lines(setup_cfg()["options"]["packages"])) == folders | {"recbole_llmgraph.properties"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, source)
    for name in ("recbole_llmgraph", "properties"):
        copytree(ROOT / name, source / name, ignore=ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(source / "dist"), str(source)], check=True, timeout=120)
    (built,) = (source / "dist").glob("*.whl")
    return built


def test_wheel_holds_every_yaml_and_module(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    yamls = {
        f"recbole_llmgraph/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "properties").rglob("*.yaml")
    }
    modules = {
        p.relative_to(ROOT).as_posix()
        for ending in ("py", "yaml")
        for p in (ROOT / "recbole_llmgraph").rglob(f"*.{ending}")
    }
    assert yamls
    assert yamls | modules | {"recbole_llmgraph/py.typed"} <= held
    assert not [name for name in held if name.startswith(("tests/", "benchmarks/", "properties/"))]


def test_cards_are_found_in_the_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "from recbole_llmgraph.model.catalogue import model_cards\n"
        "from recbole_llmgraph.data.catalogue import dataset_cards\n"
        "import recbole_llmgraph\n"
        "print(recbole_llmgraph.__file__, len(model_cards()), len(dataset_cards()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    place, models, datasets = done.stdout.rsplit(maxsplit=2)
    assert place.startswith(str(tmp_path))
    assert int(models) == len(list((ROOT / "properties/model").glob("*.yaml")))
    assert int(datasets) == len(list((ROOT / "properties/dataset").glob("*.yaml")))


def test_changelog_names_this_version() -> None:
    heads = re.findall(r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads[0] == recbole_llmgraph.__version__


def test_extras() -> None:
    assert {"offline", "openai", "quant", "dev", "sweep", "sentence"} == set(extras())


def test_every_requirement_is_pinned_inside_its_range() -> None:
    pinned = pins()
    for wanted in requirements() + [r for group in extras().values() for r in group]:
        if wanted.name in CUDA_ONLY:
            continue
        version = pinned.get(canonicalize_name(wanted.name))
        assert version, f"{wanted.name} is not in constraints.txt"
        assert wanted.specifier.contains(version), f"{wanted} excludes the tested {version}"


def test_recbole_is_installed_in_one_place() -> None:
    assert "recbole" in pins()
    assert "recbole" not in {r.name.lower() for r in requirements()}
    assert "--no-deps recbole" in (ROOT / "Makefile").read_text(encoding="utf-8")


def imported_roots() -> set[str]:
    """Outside packages that the package and the commands import, at any depth."""
    found = set()
    scripts = [*(ROOT / "benchmarks").rglob("*.py")]
    for path in [*(ROOT / "recbole_llmgraph").rglob("*.py"), *scripts]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).split(".")[0])
    beside = {path.stem for path in scripts}  # scripts may import the one that lies next to them
    return found - beside - set(sys.stdlib_module_names) - {"recbole_llmgraph", "benchmarks", "recbole"}


def test_every_import_is_declared() -> None:
    wanted = requirements() + [r for name, group in extras().items() if name != "dev" for r in group]
    declared = {canonicalize_name(r.name) for r in wanted}
    owners = packages_distributions()
    undeclared = {
        root
        for root in imported_roots()
        if not declared & {canonicalize_name(name) for name in owners.get(root, [root])}
    }
    assert not undeclared, f"add to setup.cfg: {sorted(undeclared)}"


# --- README --------------------------------------------------------------------------


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Every command line of the README's shell blocks, as words; comments dropped."""
    shell = [line for block in fenced("bash") for line in block.replace("\\\n", " ").splitlines()]
    return [line.split("#")[0].split() for line in shell if line.split("#")[0].strip()]


def scripts() -> list[str]:
    return sorted({words[1] for words in commands() if words[0] == "python"})


def test_readme_shows_the_two_commands_and_the_main_job() -> None:
    assert ["make", "demo"] in commands()
    assert ["make", "test"] in commands()
    assert ["python", "benchmarks/run.py", "--model=HeLLM", "--dataset=sports"] in commands()


def test_readme_names_files_and_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {words[1] for words in commands() if words[0] == "make"} <= targets
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    links += re.findall(r"`((?:benchmarks|docs|properties|tests)/[\w/.-]*\w)`", README)
    missing = sorted({link for link in [*links, *scripts()] if not (ROOT / link).exists()})
    assert not missing, missing


@pytest.mark.parametrize("script", scripts())
def test_readme_commands_know_their_options(script: str) -> None:
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for words in commands():
        if words[:2] == ["python", script]:
            for option in (word.split("=")[0] for word in words if word.startswith("--")):
                assert option in done.stdout, f"{script} has no {option}"


def test_readme_lists_the_models_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)$", README, re.MULTILINE)
    assert {name for name, text in rows if "next" not in text} == set(model_cards())


def test_readme_script_compiles_and_is_short() -> None:
    (script,) = fenced("python")
    compile(script, "README.md", "exec")
    assert len(lines(script)) <= 16


@pytest.mark.slow
def test_readme_script_runs(tmp_path: Path) -> None:
    (script,) = fenced("python")
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "recall@10" in done.stdout

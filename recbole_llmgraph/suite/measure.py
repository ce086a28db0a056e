"""What a run records about its cost and surroundings."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import recbole_llmgraph

#: Packages whose version can change a number.
PACKAGES = ("torch", "recbole", "numpy", "scipy", "pandas", "torch-geometric", "transformers", "peft")


def reset_peak_memory() -> None:
    """Start measuring peak resident memory anew (Linux; elsewhere the process's peak counts)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mb() -> float:
    """Peak resident memory since `reset_peak_memory`, in 10^6 bytes, interpreter and libraries included."""
    try:
        status = Path("/proc/self/status").read_text()
        return float(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Parameters in all and those that are trained; `trained_names()` of models that freeze by phase."""
    named = dict(model.named_parameters())
    told = getattr(model, "trained_names", None)
    trained = told() if told else {name for name, p in named.items() if p.requires_grad}
    return {
        "total": sum(p.numel() for p in named.values()),
        "trained": sum(p.numel() for name, p in named.items() if name in trained),
    }


def environment() -> dict[str, Any]:
    """Versions and machine."""
    found: dict[str, Any] = {"python": platform.python_version(), "system": platform.system()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found["cpu"] = _cpu()
    found["cores"] = os.cpu_count()
    found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


@cache
def code_version() -> dict[str, Any]:
    """Package version, commit and whether the checkout has changes of its own, as the process began."""
    root = Path(__file__).resolve().parents[2]
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    dirty = bool(
        _git(root, "status", "--porcelain", "--untracked-files=no", "--", "recbole_llmgraph", "properties")
    )
    return {"version": recbole_llmgraph.__version__, "commit": commit, "dirty": dirty if commit else None}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

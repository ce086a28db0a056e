"""`benchmarks/doctor.py`: what this machine has, what is missing, and what mends it.

Module-level imports are the standard library's, so that the doctor comes also where nothing is installed.
"""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_llmgraph.suite.packages import Environment, Finding, check_packages, installed

#: Memory that the largest `standard` training needs beside the system, in GiB.
WANTED_MEMORY = 4.0
#: Disk for prepared data, artifacts and runs of all datasets, in GiB.
WANTED_DISK = 5.0
_GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """What there is to compute with.

    Attributes:
        cores: that this process may use.
        memory: bytes that this process may use.
        disk: free bytes where data and runs lie.
        gpus: name and memory of each GPU, as nvidia-smi tells them.
        driver: whether nvidia-smi is there.
    """

    cores: int
    memory: int
    disk: int
    gpus: Sequence[str] = ()
    driver: bool = False


def diagnose(root: Path, data: Path, *, deep: bool = False) -> dict[str, list[Finding]]:
    """All findings by heading. `root` is the checkout, `data` the folder of prepared datasets."""
    env = installed(root, sys.version_info[:3])
    found = {
        "packages": check_packages(env),
        "machine": check_machine(look_around(data), env),
        "sources": check_sources(os.environ, data),
        "datasets": check_datasets(data),
    }
    if deep:
        found["deep"] = check_imports()
    return found


def look_around(folder: Path) -> Machine:
    """Cores, memory and disk of this process, and GPUs without importing torch."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    driver = shutil.which("nvidia-smi")
    return Machine(
        cores=_cores(),
        memory=_memory(),
        disk=shutil.disk_usage(existing).free,
        gpus=_gpus(driver) if driver else (),
        driver=driver is not None,
    )


def _cores() -> int:
    """Cores of this process, a container's quota included."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _text("/sys/fs/cgroup/cpu.max").partition(" ")
    return min(cores, max(1, round(int(quota) / int(period)))) if quota.isdigit() else cores


def _memory() -> int:
    """Memory of this process in bytes, a container's limit included."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _text("/sys/fs/cgroup/memory.max")
    return min(memory, int(limit)) if limit.isdigit() else memory


def _text(path: str) -> str:
    """A small system file; empty where there is none."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _gpus(command: str) -> tuple[str, ...]:
    """One line a GPU; none when the driver does not answer."""
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())


def check_machine(machine: Machine, env: Environment) -> list[Finding]:
    """Cores, memory, disk and GPU."""
    memory, disk = machine.memory / _GIB, machine.disk / _GIB
    findings = [Finding("ok", f"{machine.cores} core{'s' if machine.cores != 1 else ''}")]
    if memory < WANTED_MEMORY:
        findings.append(
            Finding("note", f"{memory:.1f} GiB of memory: `standard` trainings want {WANTED_MEMORY:.0f} GiB")
        )
    else:
        findings.append(Finding("ok", f"{memory:.1f} GiB of memory"))
    if disk < WANTED_DISK:
        findings.append(
            Finding("note", f"{disk:.1f} GiB of free disk: all datasets want {WANTED_DISK:.0f} GiB")
        )
    else:
        findings.append(Finding("ok", f"{disk:.0f} GiB of free disk"))
    return [*findings, check_gpu(machine, env.versions.get("torch", ""))]


def check_gpu(machine: Machine, torch_version: str) -> Finding:
    """GPUs against the build of torch."""
    if not machine.driver:
        return Finding("ok", "no GPU: everything runs on the processor")
    if not machine.gpus:
        return Finding("note", "nvidia-smi is there but names no GPU; is the driver loaded?")
    names = ", ".join(machine.gpus)
    if "+cpu" in torch_version:
        plain = torch_version.partition("+")[0]
        text = f"GPU {names}, but torch {torch_version} is a build without CUDA"
        return Finding("note", text, f"python -m pip install --force-reinstall torch=={plain}")
    return Finding("ok", f"GPU {names}; use it with --device cuda")


def check_sources(environment: Mapping[str, str], data: Path) -> list[Finding]:
    """Folders in which source files and prepared data are looked for."""
    variable = "RECBOLE_LLMGRAPH_SOURCES"
    findings = []
    folders = [entry for entry in environment.get(variable, "").split(os.pathsep) if entry]
    for entry in folders:
        if Path(entry).is_dir():
            findings.append(Finding("ok", f"source files: {entry} (${variable})"))
        else:
            mend = f"export {variable}=DIR"
            findings.append(Finding("mend", f"${variable} names {entry}, which is no folder", mend))
    if not folders:
        findings.append(
            Finding("ok", f"source files: downloaded, unless ${variable} or --source names a folder")
        )
    state = "" if data.is_dir() else ", made when first needed"
    return [*findings, Finding("ok", f"prepared data: {data} ($RECBOLE_LLMGRAPH_DATA or --data){state}")]


def check_datasets(data: Path) -> list[Finding]:
    """Which datasets are ready, and how the others get ready."""
    try:
        from recbole_llmgraph.base.errors import UserError
        from recbole_llmgraph.data.catalogue import dataset_cards
        from recbole_llmgraph.data.locate import search_path
        from recbole_llmgraph.data.prepare import prepared
        from recbole_llmgraph.data.sources import find
    except ImportError as error:
        return [Finding("note", f"datasets were not looked at: {error} (see packages)")]
    findings = []
    for card in dataset_cards():
        if prepared(card, data) is not None:
            findings.append(Finding("ok", f"{card.name}: ready"))
            continue
        command = f"python benchmarks/prepare.py --dataset {card.name}"
        try:
            folders = search_path(card)
            here = any(find(card, s, folders) for s in card.sources if "interactions" in s.holds)
        except UserError as error:
            findings.append(Finding("note", f"{card.name}: not prepared ({error})"))
            continue
        text = (
            "not prepared, source files are here"
            if here
            else "not prepared, source files would be downloaded"
        )
        findings.append(Finding("note", f"{card.name}: {text}", command))
    return findings


def check_imports() -> list[Finding]:
    """Import what is heavy and compute something with it."""
    findings = []
    for check in (_torch_works, _recbole_works):
        try:
            with warnings.catch_warnings(action="ignore"):
                findings.append(check())
        except Exception as error:  # whatever a broken install throws is the finding
            name = check.__name__.removeprefix("_").removesuffix("_works")
            told = f"{name} does not work: {type(error).__name__}: {error}"
            findings.append(Finding("mend", told, "rm -rf .venv && make setup"))
    return findings


def _torch_works() -> Finding:
    """A product and its gradient, on the GPU where torch sees one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.eye(8, device=device, requires_grad=True)
    (x @ x).sum().backward()
    return Finding("ok", f"torch {torch.__version__} computes on {device}, {torch.get_num_threads()} threads")


def _recbole_works() -> Finding:
    """RecBole behind the seam, and a sparse product of torch-geometric."""
    import torch
    from torch_geometric import EdgeIndex

    from recbole_llmgraph.host.compat import apply

    apply()
    edges = EdgeIndex([[0, 1], [1, 0]], sparse_size=(2, 2), sort_order="row")
    if not torch.equal(edges @ torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])):
        return Finding("mend", "torch-geometric multiplies wrongly here", "make setup")
    return Finding("ok", "RecBole and torch-geometric import and compute")


def report(found: Mapping[str, Sequence[Finding]]) -> str:
    """Findings as text, a block a heading, the verdict last."""
    blocks = [f"{heading}\n" + "\n".join(f"  {line}" for line in lines) for heading, lines in found.items()]
    broken = sum(finding.level == "mend" for lines in found.values() for finding in lines)
    verdict = f"{broken} to mend" if broken else "fine"
    return "\n\n".join([*blocks, verdict])


def healthy(found: Mapping[str, Sequence[Finding]]) -> bool:
    """Whether nothing needs mending."""
    return not any(finding.level == "mend" for lines in found.values() for finding in lines)

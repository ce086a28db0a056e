"""Where trials and cells run side by side: this machine's cores, or a Ray cluster.

Ray is imported when a pool is opened: plans, lists and mistakes answer without it.
"""

import argparse
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.progress import say

#: Seconds to wait for a cluster's first answer.
PATIENCE = 3.0
#: Memory for Ray's object store on this machine, in bytes; nothing large passes through it.
OBJECT_STORE = 100 * 2**20
#: How Ray is told to be silent, how often it is started, and what it says when it took too long.
TALK: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
STARTS, TOO_LATE = 4, "timed out during startup"
#: Prefix of the environment variables that workers must share.
OWN_VARIABLES = "RECBOLE_LLMGRAPH_"
#: Ray's own talk is off: what a user must know is said here. Its workers would run at niceness 15, behind
#: everything else; a trial is what the user waits for.
RAY_VARIABLES = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}


@dataclass(frozen=True)
class Pool:
    """Machines and what each job gets of them.

    Attributes:
        address: `host:port` of a cluster's head, `auto` for the one on this machine; '' starts one here.
        parallel: jobs at a time; 0: as many as there is room for.
        cpus: cores, and threads, of a job.
        gpus: GPUs of a job; a fraction shares one.
    """

    address: str = ""
    parallel: int = 0
    cpus: int = 1
    gpus: float = 0.0

    @property
    def resources(self) -> dict[str, float]:
        """What a job asks Ray for."""
        return {"cpu": float(self.cpus), **({"gpu": self.gpus} if self.gpus else {})}


def add_pool(parser: argparse.ArgumentParser, parallel: int) -> None:
    """Options of commands that run jobs side by side; `parallel` is the default number."""
    told = "as many as fit" if not parallel else str(parallel)
    parser.add_argument("--parallel", type=int, default=parallel, help=f"jobs at a time (default: {told})")
    parser.add_argument(
        "--ray-address", default="", metavar="HOST:PORT", help="head of a Ray cluster (default: this machine)"
    )
    parser.add_argument("--cpus-per-trial", type=int, default=1, help="cores of a job (default: 1)")
    parser.add_argument(
        "--gpus-per-trial", type=float, help="GPUs of a job (default: 1 with --device cuda, else 0)"
    )


def read_pool(options: argparse.Namespace, *, inline: bool = False) -> Pool:
    """Pool that a command's options name.

    Args:
        options: of `add_pool`, and `device`.
        inline: the command runs one job at a time in its own process, where every device is allowed.

    Raises:
        UserError: for numbers below zero, or a device that Ray should choose.
    """
    if options.parallel < 0 or options.cpus_per_trial < 1:
        raise UserError("--parallel takes whole numbers from 0 (as many as fit), --cpus-per-trial from 1")
    if inline and not options.ray_address and options.parallel == 1:
        return Pool(parallel=1)
    cuda = options.device != "cpu"
    gpus = options.gpus_per_trial if options.gpus_per_trial is not None else float(cuda)
    if gpus < 0 or (gpus > 0) != cuda:
        raise UserError(f"--gpus-per-trial {gpus:g} does not go with --device {options.device}")
    if options.device.startswith("cuda:"):
        raise UserError(f"--device {options.device}: Ray assigns GPUs to jobs; say --device cuda")
    return Pool(options.ray_address, options.parallel, options.cpus_per_trial, gpus)


@contextmanager
def opened(pool: Pool) -> Iterator[Any]:
    """Ray, connected; a connection of the caller's own is used and left as it is.

    Raises:
        UserError: when no cluster answers at the address, or none of its machines has room for a job.
    """
    check_address(pool.address)
    os.environ.update({name: value for name, value in RAY_VARIABLES.items() if name not in os.environ})
    import ray

    if ray.is_initialized():
        _check_room(ray, pool)
        yield ray
        return
    say(f"connecting to Ray at {pool.address}" if pool.address else "starting Ray on this machine")
    _connect(ray, pool)
    try:
        _check_room(ray, pool)
        yield ray
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Ask the head for a sign of life; Ray itself would try for a minute and then print a page.

    Raises:
        UserError: for text that is no address, or where nobody answers.
    """
    if address in ("", "auto"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or "/" in host:
        raise UserError(f"--ray-address {address}: expected HOST:PORT of a head node, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError):
        raise _unreachable(address) from None


def _connect(ray: Any, pool: Pool) -> None:
    if not pool.address:
        _start(ray)
        return
    try:
        ray.init(address=pool.address, **TALK)
    except (ConnectionError, RuntimeError, ValueError):
        raise _unreachable(pool.address) from None


def _start(ray: Any) -> None:
    """Ray on this machine's cores; it gives itself half a minute, which a busy machine may exceed."""
    for _ in range(STARTS):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE,
                num_cpus=os.cpu_count(),
                **TALK,
            )
            return
        except Exception as error:  # Ray raises a bare one
            if TOO_LATE not in str(error):
                raise
            ray.shutdown()
            say("Ray was not ready in time: this machine is busy; trying again")
    raise UserError(f"Ray did not start in {STARTS} attempts; type the same again when less is running")


def _unreachable(address: str) -> UserError:
    return UserError(
        f"--ray-address {address}: no Ray cluster answers there; start one with "
        "`ray start --head --port=6379` and name HOST:6379, or leave the option out for this machine"
    )


def _check_room(ray: Any, pool: Pool) -> None:
    """A job that no node can hold would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in ("CPU", "GPU"))
    if pool.cpus > cpus:
        raise UserError(f"--cpus-per-trial {pool.cpus}: the largest machine here has {cpus:g} cores")
    if pool.gpus > gpus:
        raise UserError(
            f"--gpus-per-trial {pool.gpus:g}: the largest machine here has {gpus:g} GPUs "
            "(benchmarks/doctor.py says more)"
        )

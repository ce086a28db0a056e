"""Keep RecBole's hands off what belongs to the process: its arguments and its environment.

`Config(...)` reads `sys.argv` and evaluates what it finds there as Python (configurator.py:165), and it
overwrites `CUDA_VISIBLE_DEVICES` (configurator.py:476), by default with GPU 0. Looking a model up by name
imports `sine.py`, which switches torch's anomaly detection on (sine.py:25). Build it inside `sealed()`.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: Environment variables that RecBole writes.
WRITTEN = ("CUDA_VISIBLE_DEVICES",)


@contextmanager
def shield_argv() -> Iterator[None]:
    """Hide every command-line argument but the program's name."""
    arguments = sys.argv
    sys.argv = arguments[:1] or [""]
    try:
        yield
    finally:
        sys.argv = arguments


@contextmanager
def keep_environment() -> Iterator[None]:
    """Restore environment variables, torch's threads and anomaly detection, and the warning filters.

    Inside, RecBole's own warnings about the pandas to come are silent: `compat.check_versions` refuses it.
    """
    before = {name: os.environ.get(name) for name in WRITTEN}
    threads, anomaly = torch.get_num_threads(), torch.is_anomaly_enabled()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.autograd.set_detect_anomaly(anomaly)


@contextmanager
def sealed() -> Iterator[None]:
    """Both at once."""
    with shield_argv(), keep_environment():
        yield

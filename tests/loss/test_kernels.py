"""benchmarks/perf/kernels.py runs to its end on a small graph, and its two ways agree on every line."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

COMMAND = Path(__file__).resolve().parents[2] / "benchmarks" / "perf" / "kernels.py"


def test_every_plain_way_computes_the_same(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("perf_kernels", COMMAND)
    kernels = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "perf_kernels", kernels)
    spec.loader.exec_module(kernels)
    threads = torch.get_num_threads()
    monkeypatch.setattr(
        sys, "argv", ["kernels.py", "--scale", "0.01", "--repeats", "1", "--threads", str(threads)]
    )
    kernels.main()
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 9
    for work, way, *_, difference in lines[2:]:
        assert float(difference) < 1e-5, (work, way)
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--only", "inofnce"])
    with pytest.raises(SystemExit):
        kernels.main()

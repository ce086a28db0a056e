"""A finished run's weights give its numbers again."""

from typing import Any

import pytest

from recbole_llmgraph.base.errors import UserError


@pytest.mark.parametrize("name", ["GALRec", "LightGCN"])
def test_restored_weights_give_the_recorded_numbers(name: str, workshop: Any, tmp_path: Any) -> None:
    from dataclasses import replace

    from recbole_llmgraph.host.evaluation import Judge
    from recbole_llmgraph.suite.restore import restored
    from recbole_llmgraph.suite.run import WEIGHTS_FILE, Runner

    runner = Runner(replace(workshop.house, store=tmp_path / "runs"))
    cell = workshop.cell(name, epochs=1)
    record = runner.run(cell)
    model, split = restored(runner, cell)
    assert Judge(split)(model, "test").metrics == record.metrics["test"]

    file = runner.house.runs.folder(record.dataset, record.model, record.key) / WEIGHTS_FILE
    file.unlink()
    with pytest.raises(UserError, match="its weights are not in"):
        restored(runner, cell)

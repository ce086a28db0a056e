"""Names that RecBole 1.2.1 misses on today's NumPy, SciPy and pandas, and what stands in for them."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recbole.data import create_dataset

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.host import originals
from recbole_llmgraph.host.compat import FIXES, apply, check_versions, compatible


@pytest.fixture
def plain() -> Iterator[None]:
    """The process as it is without our fixes."""
    taken = []
    for fix in FIXES:
        if fix.owner.__dict__.get(fix.name) is fix.value:
            delattr(fix.owner, fix.name)
            taken.append(fix)
    yield
    apply()


def test_every_fix_is_still_needed(plain: None) -> None:
    unneeded = [fix.name for fix in FIXES if not fix.needed]
    assert not unneeded, f"{unneeded} exist again: drop their fixes"


def test_config_reads_aliases_that_numpy_dropped(plain: None, config: Any) -> None:
    with pytest.raises(AttributeError, match=r"np\.float_"):
        config("BPR")
    with compatible():
        assert config("BPR")["model"] == "BPR"
    assert not hasattr(np, "float_")


def test_lightgcn_builds_its_graph_with_a_method_that_scipy_dropped(plain: None, loaders: Any) -> None:
    with compatible():
        settings, train, _, _ = loaders("LightGCN", require_pow=True)
    with pytest.raises(AttributeError, match="_update"):
        originals.LightGCN(settings, train._dataset)
    with compatible():
        matrix = originals.LightGCN(settings, train._dataset).norm_adj_matrix.to_dense()
    edges = train._dataset.inter_matrix().toarray() > 0
    degrees = np.concatenate([edges.sum(1), edges.sum(0)]) + 1e-7
    users = len(edges)
    expected = edges / np.sqrt(np.outer(degrees[:users], degrees[users:]))
    assert np.allclose(matrix[:users, users:], expected, atol=1e-6)
    assert np.allclose(matrix, matrix.T)


def test_fixes_go_in_once_and_stay_or_leave(plain: None) -> None:
    with compatible(), compatible():
        assert not any(fix.needed for fix in FIXES)
    assert all(fix.needed for fix in FIXES)
    apply()
    apply()
    with compatible():
        pass
    assert not any(fix.needed for fix in FIXES)


def test_importing_the_seam_is_enough_for_a_script() -> None:
    script = "import recbole_llmgraph.host, numpy; print(numpy.float_.__name__)"
    answer = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert answer.stdout.strip() == "float64", answer.stderr


def test_pandas_3_leaves_gaps_unfilled(config: Any) -> None:
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "price"]}
    settings = config("BPR", load_col=columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert not create_dataset(settings).item_feat["price"].isna().any()
        with pd.option_context("mode.copy_on_write", True):  # what pandas 3 always does
            assert create_dataset(settings).item_feat["price"].isna().any()


def test_pandas_3_measures_a_column_instead_of_its_lists(config: Any) -> None:
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "attributes"]}
    settings = config("BPR", load_col=columns)
    with pytest.warns(FutureWarning, match=r"len.*in Series.agg cannot aggregate"):
        create_dataset(settings)


@pytest.mark.parametrize("version", ["3.0.0", "3.1.2", "10.0.0"])
def test_pandas_3_is_refused(version: str) -> None:
    with pytest.raises(UserError, match="pip install 'pandas<3'"):
        check_versions(version)


def test_installed_pandas_is_accepted() -> None:
    check_versions(pd.__version__)

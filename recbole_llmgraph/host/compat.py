"""RecBole 1.2.1 on today's NumPy and SciPy: the narrowest fixes that let it run.

Each fix adds one missing name and is skipped where the name exists; `tests/host/test_trap_compat.py`
fails once a fix is no longer needed. `compatible()` puts them in place for one block, `apply()` for the
whole process; importing `recbole_llmgraph.host` does the latter, which a user's own script needs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from recbole_llmgraph.base.errors import UserError


@dataclass(frozen=True)
class Fix:
    """One missing name: where it belongs, what it becomes, and who reported it."""

    owner: Any
    name: str
    value: Any
    issue: str

    @property
    def needed(self) -> bool:
        """Whether the installed release lacks the name."""
        return not hasattr(self.owner, self.name)


def _update_unchecked(matrix: Any, data: Mapping[tuple[int, int], float]) -> None:
    """What `dok_matrix._update` did: take entries over without checking their indices."""
    matrix._dict.update(data)


#: NumPy 2 dropped the aliases that `Config.compatibility_settings` reads (configurator.py:630);
#: SciPy 1.13 dropped the method that LightGCN, NGCF, NCL, GCMC and KGIN build their graph with.
FIXES = (
    Fix(np, "float_", np.float64, "RUCAIBox/RecBole#2203"),
    Fix(np, "complex_", np.complex128, "RUCAIBox/RecBole#2203"),
    Fix(np, "unicode_", np.str_, "RUCAIBox/RecBole#2203"),
    Fix(sp.dok_matrix, "_update", _update_unchecked, "RUCAIBox/RecBole#2034"),
)


def check_versions(pandas: str = pd.__version__) -> None:
    """Refuse a pandas on which RecBole reads data wrongly without a word.

    From pandas 3 on, `feat[field].fillna(..., inplace=True)` changes nothing (dataset.py:501, 648, 650):
    padding rows become NaN, and text columns lose their lengths.

    Raises:
        UserError: for pandas 3 and newer.
    """
    if int(pandas.split(".")[0]) >= 3:
        raise UserError(
            f"pandas {pandas}: RecBole reads features wrongly from pandas 3 on. Type: pip install 'pandas<3'"
        )


def _put() -> list[Fix]:
    check_versions()
    put = [fix for fix in FIXES if fix.needed]
    for fix in put:
        setattr(fix.owner, fix.name, fix.value)
    return put


def apply() -> None:
    """Put every needed fix in place for the rest of the process; calling it again changes nothing."""
    _put()


@contextmanager
def compatible() -> Iterator[None]:
    """Put every needed fix in place for one block and take away what this block put."""
    put = _put()
    try:
        yield
    finally:
        for fix in put:
            delattr(fix.owner, fix.name)

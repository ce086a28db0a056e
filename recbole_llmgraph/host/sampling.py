"""Popularity sampling that counts the training part only."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt


def count_training_only(loaders: Iterable[Any], items: npt.NDArray[np.int64]) -> None:
    """Rebuild the popularity tables of RecBole's samplers from training interactions.

    RecBole counts validation and test interactions too (sampler.py:229, 399): how often an item is drawn as a
    negative then tells how often it is a target.

    Args:
        loaders: training, validation and test loader; samplers that draw uniformly are left alone.
        items: item of every training interaction. `[n]`
    """
    for loader in loaders:
        sampler = loader._sampler
        if getattr(sampler, "distribution", None) == "popularity":
            sampler._get_candidates_list = lambda: items.tolist()
            sampler._build_alias_table()

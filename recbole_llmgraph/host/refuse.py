"""Combinations of settings that RecBole accepts and should not."""

from typing import Any

from recbole_llmgraph.base.errors import UserError


def check_config(config: Any) -> None:
    """Refuse a configuration whose training would be wrong without a word.

    `repeatable: True` gives a model the sampler that avoids the row's own item only (sampler.py:426): for a
    model that draws negatives, other items of the same user come back as negatives (12 % of them on ml-100k).
    Sequential models trained by cross entropy draw none.

    Raises:
        UserError: naming the setting and its mend.
    """
    draws = config["train_neg_sample_args"]["distribution"] != "none"
    if config["repeatable"] and draws and config["MODEL_TYPE"].name != "SEQUENTIAL":
        raise UserError(
            f"{config['model']}: repeatable=True makes other items of a user negatives. Allowed: False for "
            "general models. Type: remove 'repeatable' from the settings"
        )

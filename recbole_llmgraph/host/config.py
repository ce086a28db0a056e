"""RecBole's `Config`, built without its surprises.

Shields `sys.argv` (RecBole parses it and evaluates the values), restores the environment
(RecBole overwrites `CUDA_VISIBLE_DEVICES`), keeps text values as text (RecBole evaluates
those too) and reads atomic files from the folder that was prepared (RecBole hard-wires
`ml-100k` to the copy inside its wheel).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config

from recbole_llmgraph.base.errors import UserError, unknown
from recbole_llmgraph.host.compat import apply
from recbole_llmgraph.host.seam import keep_environment, shield_argv

#: Cut-offs and metrics of every run; selection and tables choose among them.
TOPK = (5, 10, 20)
METRICS = ("Recall", "NDCG")

#: Config keys of the protocols that split ratings; `rating_split` is read by `host/ratings.py`, not RecBole.
_RATED: dict[str, Any] = {
    "eval_args": {"split": {"RS": [8, 1, 1]}, "order": "RO", "group_by": None, "mode": "full"},
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    "RATING_FIELD": "rating",
    "normalize_all": False,  # RecBole's default maps every float field to [0, 1], stars too (dataset.py:687)
    "topk": [5, 10, 15, 20],
    "metrics": ["Recall", "NDCG", "Precision"],
}
#: RecBole's arguments, a protocol each.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "seq": {
        "eval_args": {
            "split": {"LS": "valid_and_test"},
            "order": "TO",
            "group_by": "user",
            "mode": "full",
        },
    },
    "rate": {**_RATED, "rating_split": {"test": 0.2, "held": 0.1, "seed": 1}},
    "sign": {
        **_RATED,
        "rating_split": {"by_user": True, "released": True, "test": 0.2, "held": 0.1, "seed": 1},
    },
}


def protocol_values(protocol: str) -> dict[str, Any]:
    """RecBole's arguments of a protocol; `rate@2` is `rate` with another draw of its split.

    `sign` tests what a paper released for the dataset, if one did; `sign@1` draws there, too.

    Raises:
        UserError: for an unknown protocol.
    """
    name, at, draw = protocol.partition("@")
    numbered = name in ("rate", "sign") and draw.isdecimal() and int(draw) < 2**32
    if name not in PROTOCOLS or (at and not numbered):
        raise unknown("protocol", protocol, [*PROTOCOLS, "rate@2", "sign@1"])
    values = PROTOCOLS[name]
    if not at:
        return values
    return {**values, "rating_split": {**values["rating_split"], "released": False, "seed": int(draw)}}


def tests_released(protocol: str) -> bool:
    """Whether a protocol tests what a paper released, where a paper did."""
    return bool(protocol_values(protocol).get("rating_split", {}).get("released"))


def measured(protocol: str) -> list[str]:
    """Names of the metrics that every run under a protocol has: `recall@5` and so on."""
    values = protocol_values(protocol)
    kinds, cutoffs = values.get("metrics", METRICS), values.get("topk", TOPK)
    return [f"{kind.lower()}@{k}" for kind in kinds for k in cutoffs]


def has_hold_out(protocol: str) -> bool:
    """Whether a hold-out of the training part validates, and is trained on afterwards."""
    return "rating_split" in protocol_values(protocol)


def _honour_atomic_folder() -> None:
    """Make `Config` read atomic files from the key `atomic_folder` where it is given.

    RecBole hard-wires `ml-100k` to the copy inside its wheel (configurator.py:330), whose
    float32 timestamps tie where the prepared copy's ranks do not.
    """
    original = Config._set_default_parameters

    def with_folder(config: Config) -> None:
        original(config)
        folder = config.final_config_dict.get("atomic_folder")
        if folder:
            config.final_config_dict["data_path"] = folder

    Config._set_default_parameters = with_folder


_honour_atomic_folder()


def recbole_values(
    family: str,
    values: Mapping[str, Any],
    *,
    folder: Path,
    protocol: str,
    seed: int,
    held_out: bool = False,
) -> dict[str, Any]:
    """Config values of a run: ours for data, protocol and metrics, then the model's own.

    Args:
        family: `general` or `sequential`.
        values: keys that the model asks for (its settings in RecBole's words).
        folder: folder of the atomic files.
        protocol: as `protocol_values` knows it.
        seed: seeds RecBole's loaders and the model's initial weights.
        held_out: under `rate` and `sign`, keep the hold-out from training, so that it can validate.
    """
    if not has_hold_out(protocol) and held_out:
        raise ValueError(f"protocol {protocol} has a validation part of its own, nothing is held out")
    return {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "metrics": list(METRICS),
        "topk": list(TOPK),
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 12,
        "repeatable": family == "sequential",
        "seed": seed,
        "reproducibility": True,
        "show_progress": False,
        "state": "WARNING",
        "atomic_folder": str(folder),
        **protocol_values(protocol),
        **({"held_out": True} if held_out else {}),
        **values,
    }


def make_config(model_class: type, dataset: str, values: Mapping[str, Any], *, device: str = "cpu") -> Config:
    """Build RecBole's `Config` for a model class.

    Args:
        model_class: a RecBole model class.
        dataset: name of the atomic files.
        values: as `recbole_values` gives them.
        device: `cpu`, `cuda` or `cuda:N`.
    """
    apply()
    check_device(device)
    gpu = _gpu_id(device)
    with shield_argv(), keep_environment():
        config = Config(
            model=model_class,
            dataset=dataset,
            config_dict={**values, "gpu_id": gpu, "use_gpu": bool(gpu)},
        )
    for key, value in values.items():
        if isinstance(value, str):
            config[key] = value  # RecBole ran eval() on it
    config["device"] = torch.device(
        device
    )  # RecBole says `cuda` for cuda:1 too, and `cpu` where there is none
    return config


def check_device(device: str) -> None:
    """Refuse a device that is not there; RecBole would take the CPU without a word.

    Raises:
        UserError: naming what is allowed.
    """
    kind, _, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or not (number.isdecimal() or device == "cuda")):
        raise UserError(f"--device {device}: expected cpu, cuda or cuda:N")
    found = torch.cuda.device_count()
    if device != "cpu" and int(number or 0) >= found:
        raise UserError(f"--device {device}: this torch sees {found} GPUs (benchmarks/doctor.py says more)")


def _gpu_id(device: str) -> str:
    """RecBole's `gpu_id` for a device: the assigned GPUs when a scheduler chose them, '' for the CPU."""
    if device == "cpu":
        return ""
    return os.environ.get("CUDA_VISIBLE_DEVICES") or device.partition(":")[2] or "0"

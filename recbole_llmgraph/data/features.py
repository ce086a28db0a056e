"""Side features: float32 rows keyed by item token, kept as safetensors."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recbole_llmgraph.base.errors import UserError

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Feature:
    """Rows of one feature: `tokens[k]` is the item of `rows[k]`; rows is `[N, d]`."""

    tokens: list[str]
    rows: Rows
    origin: str


def write_feature(path: Path, feature: Feature) -> None:
    """Write `rows` and the tokens, in the form that `artifact.tables` reads too."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tokens = np.frombuffer(json.dumps(feature.tokens, ensure_ascii=False).encode(), np.uint8)
    # one metadata entry only: safetensors writes several in no fixed order
    metadata = {"meta": json.dumps({"origin": feature.origin})}
    save_file({"rows": np.ascontiguousarray(feature.rows, np.float32), "tokens": tokens}, path, metadata)


def read_feature(path: Path) -> Feature:
    """Read what `write_feature` wrote.

    Raises:
        UserError: when the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            meta = json.loads((opened.metadata() or {})["meta"])
            tokens = json.loads(opened.get_tensor("tokens").tobytes().decode())
            return Feature(tokens, opened.get_tensor("rows"), meta["origin"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: is damaged ({error}); prepare the dataset again with --force") from None

"""How far apart encodings lie (Wang and Isola, ICML 2020)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def spread(rows: Tensor) -> tuple[float, float]:
    """Mean cosine between different rows, and uniformity: log mean exp(-2 |x - y|^2) of unit rows.

    Both fall as rows spread; uniformity is 0 when all point the same way.

    Args:
        rows: `[B, D]`, B at least 2.
    """
    unit = F.normalize(rows.detach().float(), dim=1)
    cosine = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool, device=unit.device)]
    # |x - y|^2 = 2 - 2 cos
    uniformity = (4 * cosine - 4).logsumexp(0) - math.log(len(cosine))
    return float(cosine.mean()), float(uniformity)

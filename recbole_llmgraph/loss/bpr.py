"""Pairwise ranking loss and its L2 penalty."""

from torch import Tensor
from torch.nn import functional as F


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -ln sigma(positive - negative) (Rendle et al., BPR, UAI 2009), finite for any score.

    Args:
        positive: `[B]` scores of what the user chose.
        negative: scores of what the user did not choose, any shape that broadcasts to `positive`.
    """
    return F.softplus(negative - positive).mean()


def l2_penalty(*vectors: Tensor) -> Tensor:
    """(1/2B) sum of squared norms over vectors `[B, d]` each; times lambda, the regulariser of MMHCL."""
    total = sum((v.square().sum() for v in vectors), start=vectors[0].new_zeros(()))
    return total / (2 * len(vectors[0]))

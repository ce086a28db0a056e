"""Pairwise ranking loss and its L2 penalty."""

from torch import Tensor
from torch.nn import functional as F

#: Added to the probability in `floored_bpr`.
FLOOR = 1e-5


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -ln sigma(positive - negative) (Rendle et al., BPR, UAI 2009), finite for any score.

    Args:
        positive: `[B]` scores of what the user chose.
        negative: scores of what the user did not choose, any shape that broadcasts to `positive`.
    """
    return F.softplus(negative - positive).mean()


def floored_bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -ln(1e-5 + sigma(positive - negative)): SELFRec's form, flat where a pair is lost by far.

    Args:
        positive: `[B]` scores of what the user chose.
        negative: `[B]` scores of what the user did not choose.
    """
    return -(FLOOR + (positive - negative).sigmoid()).log().mean()


def dual_bpr_positive(positive: Tensor, negative: Tensor) -> Tensor:
    """Sum of -ln sigma(s_i - s_j) over liked items i and their negatives j (LLM-PNGNN eq. 10, first case).

    Args:
        positive: `[B]` scores of what the user likes.
        negative: `[B, k]` scores of what the user did not meet.
    """
    return F.softplus(negative - positive.unsqueeze(1)).sum()


def dual_bpr_negative(disliked: Tensor, negative: Tensor, b: float) -> Tensor:
    """Sum of -ln sigma(s_j - b s_i) over disliked items i and their negatives j (eq. 10, last case).

    Args:
        disliked: `[B]` scores of what the user dislikes.
        negative: `[B, k]` scores of what the user did not meet.
        b: above 1; how much further down the disliked item must go.
    """
    return F.softplus(b * disliked.unsqueeze(1) - negative).sum()


def l2_penalty(*vectors: Tensor) -> Tensor:
    """(1/2B) sum of squared norms over vectors `[B, d]` each; times lambda, the regulariser of MMHCL."""
    total = sum((v.square().sum() for v in vectors), start=vectors[0].new_zeros(()))
    return total / (2 * len(vectors[0]))

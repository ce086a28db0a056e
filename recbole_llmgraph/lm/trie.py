"""Codes in a trie, and beam search that leaves no way but those to a leaf.

It knows codes and log-probabilities, no language model: `step` hands it the latter.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: What each beam wrote last (piece from 1, 0 at the root) and the beam it grew from, `[S, W]` each, to the
#: log-probabilities of all pieces that may come next, `[S, W, V]`.
Step = Callable[[Tensor, Tensor], Tensor]


class Found(NamedTuple):
    """Leaves, best first, 0 where a row found no more, and their log-probabilities. `[S, W]` each"""

    leaves: Tensor
    scores: Tensor


class Trie(nn.Module):
    """All codes from one root.

    Args:
        codes: pieces from 1 to `vocabulary`, 0 on the right; row 0 is padding. `[N, C]`
        vocabulary: pieces there are, V.

    Raises:
        ValueError: when a code is empty, stands twice or begins another.
    """

    moves: Tensor

    def __init__(self, codes: Tensor, vocabulary: int) -> None:
        super().__init__()
        ways: list[dict[int, int]] = [{}]  # of every inner node: piece to inner node, or to -leaf
        for leaf, code in enumerate(codes.tolist()):
            if leaf:
                _grow(ways, [piece for piece in code if piece], leaf)
        #: Inner nodes; node `inner + n` is leaf n, and `inner` itself, the leaf of padding, is a dead end.
        self.inner = len(ways)
        self.depth = codes.shape[1]
        moves = torch.full((self.inner, vocabulary), self.inner, dtype=torch.long)
        for node, pieces in enumerate(ways):
            for piece, reached in pieces.items():
                moves[node, piece - 1] = reached if reached > 0 else self.inner - reached
        self.register_buffer("moves", moves, persistent=False)

    @torch.no_grad()
    def search(self, widths: Tensor, step: Step) -> Found:
        """The most probable leaves of every row, by beams.

        A leaf's score is the sum of its pieces' log-probabilities. Finished beams stay among the others, so
        with as many beams as leaves the result is that of scoring every leaf.

        Args:
            widths: beams of every row, which do not depend on the other rows. `[S]`
            step: called once a level.
        """
        scores = torch.zeros(len(widths), 1, device=widths.device)
        nodes = torch.zeros_like(scores, dtype=torch.long)
        pieces, parents = nodes, nodes
        for _ in range(self.depth):
            told = step(pieces, parents)
            grown = self._grown(told, scores, nodes)
            scores, chosen = grown.topk(min(int(widths.max()), grown.shape[1]), dim=1)
            beyond = torch.arange(scores.shape[1], device=widths.device) >= widths.unsqueeze(1)
            scores = scores.masked_fill(beyond, -torch.inf)
            vocabulary, before = told.shape[2], nodes
            stayed = chosen - before.shape[1] * vocabulary
            parents = torch.where(stayed < 0, chosen // vocabulary, stayed)
            pieces = torch.where(stayed < 0, chosen % vocabulary + 1, 0)
            from_node = before.gather(1, parents)
            reached = self.moves[from_node.clamp_max(self.inner - 1), (pieces - 1).clamp_min(0)]
            nodes = torch.where(stayed < 0, reached, from_node)
            nodes = nodes.masked_fill(scores == -torch.inf, self.inner)
            if bool((nodes >= self.inner).all()):
                break
        return Found((nodes - self.inner).clamp_min(0), scores)

    def _grown(self, told: Tensor, scores: Tensor, nodes: Tensor) -> Tensor:
        """Score of every beam with every piece, then of beams that stay as they are. `[S, W V + W]`"""
        live = nodes < self.inner
        reached = self.moves[nodes.clamp_max(self.inner - 1)]
        barred = (reached == self.inner) | ~live.unsqueeze(2)
        grown = (scores.unsqueeze(2) + told).masked_fill_(barred, -torch.inf)
        return torch.cat([grown.flatten(1), scores.masked_fill(live, -torch.inf)], dim=1)


def _grow(ways: list[dict[int, int]], code: list[int], leaf: int) -> None:
    """Add one code."""
    if not code:
        raise ValueError(f"code {leaf} is empty")
    node = 0
    for piece in code[:-1]:
        if ways[node].setdefault(piece, len(ways)) == len(ways):
            ways.append({})
        node = ways[node][piece]
        if node < 0:
            raise ValueError(f"code {-node} begins code {leaf}")
    if code[-1] in ways[node]:
        raise ValueError(f"code {leaf} stands twice or begins another")
    ways[node][code[-1]] = -leaf

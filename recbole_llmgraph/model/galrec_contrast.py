"""GAL-Rec's contrastive losses between views, with momentum copy and queues (SPEC 2.4).

nce(A, P, Q) = -mean log e^{AP/tau} / (e^{AP/tau} + sum_q e^{Aq/tau}),  q with the positive's id left out
L1 = nce(Eu2, Eu0, Q_u0) + nce(Ei2, Ei0, Q_i0)                                       (eq. 5-6)
L2 = nce(Ei1, Eu2, Q_u2) + nce(Eu1, Ei2, Q_i2)                                       (eq. 8-10)
L3 = nce(Ei1, Eu0, Q_u0) + nce(Eu1, Ei0, Q_i0)                                       (eq. 11-13)
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_llmgraph.loss.infonce import infonce
from recbole_llmgraph.loss.momentum import MomentumCopy
from recbole_llmgraph.loss.queue import NegativeQueue
from recbole_llmgraph.model.galrec_views import Pairs, View

Loss = Literal["L1", "L2", "L3"]
#: Anchor, positive and queue; a queue is named for the view that it holds.
Term = tuple[View, View, View]

ZERO_HOP: dict[Loss, list[Term]] = {
    "L1": [("u2", "u0", "u0"), ("i2", "i0", "i0")],
    "L2": [("i1", "u2", "u2"), ("u1", "i2", "i2")],
    "L3": [("i1", "u0", "u0"), ("u1", "i0", "i0")],
}
#: Eq. 14's negatives in L1.
TWO_HOP = ZERO_HOP | {"L1": [("u2", "u0", "u2"), ("i2", "i0", "i2")]}


@dataclass(frozen=True)
class ContrastPlan:
    """What is contrasted with what.

    Attributes:
        weights: of the losses in use.
        negatives: `zero_hop` or `two_hop`, of L1.
        positives: `momentum` copy or `query` encoder.
        tau: temperature.
        queue_length: encodings in each queue; 0 leaves no negatives.
        momentum: m of the copy.
    """

    weights: dict[Loss, float]
    negatives: Literal["zero_hop", "two_hop"]
    positives: Literal["momentum", "query"]
    tau: float
    queue_length: int
    momentum: float

    @property
    def terms(self) -> list[tuple[float, Term]]:
        """Every term with its weight."""
        terms = ZERO_HOP if self.negatives == "zero_hop" else TWO_HOP
        return [(weight, term) for loss, weight in self.weights.items() for term in terms[loss]]

    @property
    def query_views(self) -> list[View]:
        """Views through which gradients flow."""
        wanted = {anchor for _, (anchor, _, _) in self.terms}
        if self.positives == "query":
            wanted |= {positive for _, (_, positive, _) in self.terms}
        return sorted(wanted)

    @property
    def memory_views(self) -> list[View]:
        """Views that the momentum copy encodes: of positives and of queues."""
        found = {queue for _, (_, _, queue) in self.terms}
        if self.positives == "momentum":
            found |= {positive for _, (_, positive, _) in self.terms}
        return sorted(found)


class Contrast(nn.Module):
    """Momentum copy, queues and the weighted sum of the losses.

    Shapes: G pairs, D width of encodings, Q queue length.
    """

    def __init__(self, reader: nn.Module, plan: ContrastPlan, width: int) -> None:
        """Args: the network that encodes, what to contrast, and D."""
        super().__init__()
        self.plan, self.width = plan, width
        self.copy = MomentumCopy(reader, plan.momentum)
        held = sorted({queue for _, (_, _, queue) in plan.terms}) if plan.queue_length else []
        self.queues = nn.ModuleDict({view: NegativeQueue(plan.queue_length, width) for view in held})

    def forward(self, pairs: Pairs, query: dict[View, Tensor], memory: dict[View, Tensor]) -> Tensor:
        """The loss; afterwards the momentum copy's encodings enter the queues.

        Args:
            pairs: what the encodings are about.
            query: encodings with gradients, of `plan.query_views`. `[G, D]` each
            memory: the momentum copy's, of `plan.memory_views`. `[G, D]` each
        """
        positives = query if self.plan.positives == "query" else memory
        total = torch.zeros((), device=pairs.users.device)
        for weight, (anchor, positive, queue) in self.plan.terms:
            negatives, mask = self._negatives(queue, pairs)
            found = infonce(query[anchor], positives[positive], negatives, self.plan.tau, mask)
            total = total + weight * found
        for view, ring in self.queues.items():
            assert isinstance(ring, NegativeQueue)
            name: View = view  # type: ignore[assignment]
            ring.push(F.normalize(memory[name], dim=1), _named(name, pairs))
        return total

    def _negatives(self, view: View, pairs: Pairs) -> tuple[Tensor, Tensor | None]:
        """A view's queue, and which of it stands for each row's own positive. `[Q, D], [G, Q]`"""
        if view not in self.queues:
            return torch.zeros(0, self.width, device=pairs.users.device), None
        ring = self.queues[view]
        assert isinstance(ring, NegativeQueue)
        # The ring takes this batch in before the backward pass.
        return ring.rows.clone(), ring.mask(_named(view, pairs))


def _named(view: View, pairs: Pairs) -> Tensor:
    """Id of what a view is about. `[G]`"""
    return pairs.users if view[0] == "u" else pairs.targets

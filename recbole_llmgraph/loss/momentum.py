"""A copy of a network that follows it slowly (He et al., MoCo, CVPR 2020)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class MomentumCopy(nn.Module):
    """Weights that follow a network's trained ones: `copy <- m copy + (1 - m) network`.

    Frozen weights are the network's own and take no memory here. The copies are buffers: they are saved
    with the model and never trained.
    """

    def __init__(self, network: nn.Module, momentum: float) -> None:
        """Args: the network, and m in [0, 1]."""
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in 0..1, not {momentum}")
        self.momentum = momentum
        self._names = {name: name.replace(".", "/") for name, _ in _trained(network)}
        for name, weight in _trained(network):
            self.register_buffer(self._names[name], weight.detach().clone())

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Move towards the network's present weights."""
        for name, weight in _trained(network):
            self._copy(name).lerp_(weight, 1 - self.momentum)

    @torch.no_grad()
    def forward(self, network: nn.Module, *arguments: Any) -> Any:
        """What the network would answer with the copied weights, without dropout; no gradient flows."""
        copies = {id(weight): self._copy(name) for name, weight in _trained(network)}
        # Every place once: where a module has two names, `functional_call` would put back a copy.
        weights = {
            name: copies[id(weight)]
            for prefix, module in network.named_modules()
            for name, weight in module.named_parameters(prefix, recurse=False)
            if id(weight) in copies
        }
        training = network.training
        network.eval()
        try:
            return functional_call(network, weights, arguments, tie_weights=False)
        finally:
            network.train(training)

    def _copy(self, name: str) -> Tensor:
        return self.get_buffer(self._names[name])


def _trained(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]

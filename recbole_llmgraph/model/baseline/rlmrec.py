"""RLMRec: LightGCN whose nodes agree with what a language model says of users and items.

Paper: Ren et al., "Representation Learning with Large Language Models for Recommendation", WWW 2024,
arXiv 2310.15950. Released code, read for facts only: HKUDS/RLMRec @2241375.

    e = sum_{l=0..L} A^l x;  s(u, i) = <e_u, e_i>;  t: vectors of the profiles, constant
    NCE(a, t; K) = -ln e^(cos(a, t) / tau) / sum_{k in K} e^(cos(a, k) / tau)

    con: L = BPR + reg |weights|^2 + lambda mean_rows [NCE(e_u, f(t_u); all users)
                                         + NCE(e_p, f(t_p); the batch's p) + NCE(e_n, f(t_n); the batch's n)]
    gen: a share `mask_ratio` of all x becomes one learnt mask;  e and BPR from these
         L = BPR + reg |weights|^2 + mu mean_{masked v} NCE(g(e_v), t_v; the masked)

f and g are perceptrons with one hidden layer, as wide as half of both ends, and a leaky ReLU. A user or an
item that stands in a batch several times is computed once and counted as often, which is the same loss.

Profiles are those of LAGCL4Rec (`suite/profiles.py`), read by the suite's text encoder: the paper's are by
GPT-3.5 and read by text-embedding-ada-002. A row says what stands in for them.

Deviations, each a named setting where there is a choice:

* `edge_dropout`: the release draws the directed entries that a step goes without; here an epoch goes without
  edges, in both directions. Weights are those of the whole graph in both.
* The release penalises all parameters by their squares; so it is here, text vectors being none.
* Negatives are drawn exactly from what a user did not rate; padding is never a key and never masked.
* `embedding_size` 32 is the published one; `standard` has the width of the models beside it.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator
from torch import Tensor, nn

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.graph.encoder import DroppedEncoder
from recbole_llmgraph.graph.sampled import SampledPairs
from recbole_llmgraph.host.dataset import item_tokens, user_tokens
from recbole_llmgraph.loss.bpr import bpr
from recbole_llmgraph.loss.cross_entropy import item_cross_entropy
from recbole_llmgraph.loss.group_infonce import COLDEST
from recbole_llmgraph.loss.infonce import unit
from recbole_llmgraph.model.augmented import MODELS
from recbole_llmgraph.model.baseline.contrast import ContrastiveGCN, ContrastSettings
from recbole_llmgraph.model.needs import Need, ProfileVectors
from recbole_llmgraph.model.profiled import read_profiles
from recbole_llmgraph.oracle.options import OracleOptions


class RLMRecSettings(ContrastSettings):
    """Settings of RLMRec; defaults are the released ones."""

    train_batch_size: PositiveInt = 4096
    embedding_size: PositiveInt = 32
    n_layers: PositiveInt = 3
    reg_weight: NonNegativeFloat = 1e-7
    rlmrec: Literal["con", "gen"] = "con"
    """Contrast with profiles, or their reconstruction."""
    contrast_weight: NonNegativeFloat = 1e-2
    """lambda, of `con`."""
    reconstruction_weight: NonNegativeFloat = 0.1
    """mu, of `gen`."""
    tau: float = Field(default=0.2, ge=COLDEST)
    """Temperature of both."""
    mask_ratio: float = Field(default=0.1, gt=0, lt=1)
    """Share of the nodes that a step masks (`gen`)."""
    edge_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the edges that an epoch goes without."""
    text_encoder: str = "auto"
    profiles: Literal["oracle", "summary", "metadata"] = "oracle"
    """What items and users are described by (`suite/profiles.py`)."""
    oracle: str = "heuristic"
    """Who describes."""
    oracle_options: dict[str, Any] = {}
    """Options of the oracle (`oracle/options.py`); keys come from the environment."""
    profile_vectors: str = ""
    """Folder of vectors; the suite fills it."""

    @field_validator("oracle")
    @classmethod
    def _known(cls, oracle: str) -> str:
        if oracle != "heuristic" and not oracle.startswith(MODELS):
            raise ValueError(f"expected heuristic, or {', '.join(f'{m}…' for m in MODELS)}")
        return oracle

    @field_validator("oracle_options")
    @classmethod
    def _options(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Options that the oracle knows."""
        OracleOptions.read(options, "oracle_options")
        return options


#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "learning_rate": [1e-3, 2e-3, 5e-3],
    "rlmrec": ["con", "gen"],
    "contrast_weight": [1e-3, 1e-2, 1e-1],
    "reconstruction_weight": [0.01, 0.1, 1.0],
    "tau": [0.1, 0.2, 0.5, 1.0],
    "mask_ratio": [0.05, 0.1, 0.15],
}
#: What is taken away or exchanged, one at a time (the paper's Table 4 deals profiles to others).
ablations: dict[str, dict[str, Any]] = {
    "no_profiles": {"contrast_weight": 0.0, "reconstruction_weight": 0.0},
    "shuffled_profiles": {"text_encoder": "shuffled:auto"},
}


class RLMRec(ContrastiveGCN):
    """Representation learning with language models.

    Shapes: U users and N items, padding included and without edges; n = U + N nodes, width d; profiles have
    width T; B rows.
    """

    settings: ClassVar[type[ContrastSettings]] = RLMRecSettings
    keeps_candidates: ClassVar[bool] = False
    profiles: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset."""
        super().__init__(config, dataset)
        if not self.options.profile_vectors:
            raise UserError(
                "RLMRec needs profile_vectors: pass config_dict=recbole_settings('RLMRec', dataset), or run "
                "benchmarks/run.py --model=RLMRec"
            )
        names = user_tokens(dataset), item_tokens(dataset)
        rows = read_profiles(Path(self.options.profile_vectors), *names)
        self.register_buffer("profiles", rows, persistent=False)
        width, told, generates = self.options.embedding_size, rows.shape[1], self.options.rlmrec == "gen"
        middle = (width + told) // 2
        ends = (width, told) if generates else (told, width)
        self.perceptron = nn.Sequential(
            nn.Linear(ends[0], middle), nn.LeakyReLU(), nn.Linear(middle, ends[1])
        )
        for layer in self.perceptron:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
        self.mask = nn.Parameter(torch.zeros(1, width)) if generates else None

    @classmethod
    def needs(cls, settings: RLMRecSettings) -> list[Need]:
        """Vectors of profiles."""
        asked = settings.oracle, settings.profiles, settings.oracle_options
        return [ProfileVectors("profile_vectors", settings.text_encoder, *asked)]

    def make_encoder(self, users: Tensor, items: Tensor) -> DroppedEncoder:
        """Propagation whose layers add up."""
        options = self.options
        return DroppedEncoder(
            users, items, self.n_users, self.n_items, options.n_layers, drop=options.edge_dropout
        )

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Loss of one batch of liked pairs."""
        self.forget()
        options, generates = self.options, self.options.rlmrec == "gen"
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        drawn = self.drawn_items(users, items)
        x = self.nodes.weight
        masked = self.drawn_nodes() if generates else users[:0]
        if self.mask is not None:
            x = x.index_put((masked,), self.mask.expand(len(masked), -1))
        nodes = self.encoder(x).final
        scores = SampledPairs(users, drawn, self.n_users, self.n_items).scores(nodes)
        loss: Tensor = bpr(scores[:, 0], scores[:, 1])
        loss = loss + options.reg_weight * sum(weight.square().sum() for weight in self.parameters())
        scale = len(users) if options.contrast_reduction == "sum" else 1
        if generates and options.reconstruction_weight:
            one = self.reconstruction(nodes[masked], self.profiles[masked])
            loss = loss + options.reconstruction_weight * scale * one
        elif not generates and options.contrast_weight:
            loss = loss + options.contrast_weight * scale * self.agreement(nodes, users, drawn)
        return loss

    def agreement(self, nodes: Tensor, users: Tensor, drawn: Tensor) -> Tensor:
        """Contrast with profiles: encoded nodes `[n, d]`, rows' users `[B]` and items `[B, 2]`."""
        tau = self.options.tau
        ids, counts = users.unique(return_counts=True)
        keys = unit(self.perceptron(self.profiles[1 : self.n_users]))
        loss: Tensor = item_cross_entropy(
            unit(nodes[ids]) / tau, keys, ids - 1, weights=counts.to(keys.dtype)
        )
        for column in (drawn + self.n_users).T:
            ids, counts = column.unique(return_counts=True)
            weights = counts.to(keys.dtype)
            often = weights.log()  # a key that stands c times in the sum, and once above it
            keys = unit(self.perceptron(self.profiles[ids]))
            own = torch.arange(len(ids), device=ids.device)
            loss = loss + item_cross_entropy(unit(nodes[ids]) / tau, keys, own, often, weights)
            loss = loss + (weights * often).sum() / weights.sum()
        return loss

    def drawn_nodes(self) -> Tensor:
        """Nodes that a step masks, padding apart. `[m]`"""
        real = self.n_users + self.n_items - 2
        count = max(1, int(real * self.options.mask_ratio))
        found = torch.randperm(real, device=self.nodes.weight.device)[:count] + 1
        nodes: Tensor = found + (found >= self.n_users)  # the items' padding is left out
        return nodes

    def reconstruction(self, nodes: Tensor, profiles: Tensor) -> Tensor:
        """Mean NCE of masked nodes `[m, d]` that tell their own profile among theirs `[m, T]`."""
        told = unit(self.perceptron(nodes)) / self.options.tau
        own = torch.arange(len(told), device=told.device)
        loss: Tensor = item_cross_entropy(told, unit(profiles), own)
        return loss

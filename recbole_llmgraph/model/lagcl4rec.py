"""LAGCL4Rec: graph contrastive learning with a language model's samples, groups and reranking.

Paper: "LAGCL4Rec", Findings of EMNLP 2025. Released code, read for facts only: LQgdwind/LAGCL4Rec @64b44eb.

Data level (`suite/augment.py`): users with few ratings get up to `augment_k` liked and as many disliked
candidates of the backbone. The liked ones join graph and BPR; the disliked ones are told to the reranker, and
to BPR where `explicit_negative_weight` is positive.

Rerank level (`model/rerank.py`): the best `rerank_top` unseen items of the *test* ranking are mixed with the
opinion of an oracle or of a classifier that was trained on the hold-out alone; validation, which picks the
epoch, sees the rank level as it is, since the hold-out is what the classifier learned from. So does a RecBole
script of your own, unless it calls `model.enter_part("test")`.

Rank level: a graph encoder (`backbone`), and for each pair (u, p) a negative e outside p's group and one h
inside it, both drawn exactly from what u did not rate.

    L_BPR = mean -ln(1e-5 + sigma(s_p - s_e)) + w_h mean -ln(1e-5 + sigma(s_p - s_h))
    l_a   = -ln e^(c_aa/tp) / (e^(c_aa/tp) + w_n sum_{same group} e^(c_ab/th) + sum_{rest} e^(c_ab/te))
    L     = L_BPR + lambda (mean_users l + mean_items l) + reg (|U_B| + |P_B|) / B
    tp = tau, te = max(tau / 4, 0.1), th = max(tau / 10, 0.1);  c: cosines of two views, distinct nodes of B

One propagation serves all losses with the default backbone.

What differs from the release, and what is ours:

* Group files are read by id as whole numbers. The release looks text up among whole numbers, never finds
  anything, and so trains XSimGCL with three BPR terms and InfoNCE at temperature tau; `groups: none` is that.
  `groups: random` keeps the sizes of the groups and forgets who is in them.
* With groups found, tp above te and th rewards nodes that point away from their own view: as all cosines
  fall together, l falls by at least (1 - p) (1 / te - 1 / tp) a unit, p being the positive's share of the
  sum. Training ends there, at popularity (`reports/findings.md`). `group_temperatures: equal` (tp = th = te
  = tau) has no such slope; groups then act through w_n alone. The presets `standard` and `quick` take it,
  with XSimGCL's tau and lambda; the defaults here and the preset `paper` are the release's.
* w_h and w_n are one number there; here `hard_weight` and `contrast_hard_weight`, both 2.
* The prompts of the data level were not released; templates, ranks and `augment_k` are ours.
* Disliked candidates do not enter profiles and groups, which are made from real ratings alone.
* The epoch is picked on a hold-out; the release picks it on test users.
* Liked candidates of the data level may be drawn as negatives, like any item that the user did not rate;
  `augmented_seen: true`, as in the preset `paper`, bars them.
* The classifier learns from prompts without the data level's disliked candidates, which are another model's
  while the hold-out is kept apart, and is asked with them.
* `groups: replay` and `profiles: summary` may have seen test ratings: their rows say `provenance unknown`.
* `backbone: lightgcn` has no views and so no contrast: Group-BPR alone.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.graph.encoder import LightEncoder, SGLEncoder, SimGCLEncoder, XSimGCLEncoder
from recbole_llmgraph.graph.group_negatives import GroupNegatives
from recbole_llmgraph.host.dataset import item_tokens, user_tokens
from recbole_llmgraph.loss.bpr import floored_bpr
from recbole_llmgraph.loss.group_infonce import group_infonce, group_temperatures
from recbole_llmgraph.model import rerank
from recbole_llmgraph.model.baseline.contrast import ContrastiveGCN, met_pairs
from recbole_llmgraph.model.grouping import read_groups
from recbole_llmgraph.model.lagcl4rec_settings import LAGCL4RecSettings
from recbole_llmgraph.model.needs import Augmentation, Groups, Need, Reranker, RerankTexts

#: The suite's own model of each backbone, which offers candidates to the data level.
STAGES = {"xsimgcl": "XSimGCL", "simgcl": "SimGCL", "sgl": "SGL", "lightgcn": "LightGCN"}
#: Values that sweeps try.
search_space: dict[str, list[Any]] = {
    "hard_weight": [1.0, 2.0, 3.0],
    "tau": [0.2, 0.5, 1.0],
    "contrast_weight": [0.05, 0.1, 0.17, 0.3],
    "explicit_negative_weight": [0.0, 0.25, 0.5],
}
#: One at a time: every switch, and the two controls of the groups. Without a reranker and without
#: `explicit_negative_weight` disliked candidates do nothing: `pos_only` is the whole, `neg_only` is `no_aug`.
ablations: dict[str, dict[str, Any]] = {
    "no_aug": {"augment": "none"},
    "pos_only": {"augment": "positive"},
    "neg_only": {"augment": "negative"},
    "no_group_bpr": {"hard_weight": 0.0},
    "no_group_nce": {"contrast": "plain"},
    "random_groups": {"groups": "random"},
    "kmeans_groups": {"groups": "kmeans"},
    "no_rerank": {"rerank": "off"},
}


class LAGCL4Rec(ContrastiveGCN):
    """Language-model-augmented graph contrastive learning.

    Shapes: U users and N items, padding included and without edges; n = U + N nodes; B rows.
    """

    settings: ClassVar[type[LAGCL4RecSettings]] = LAGCL4RecSettings
    keeps_candidates: ClassVar[bool] = False
    node_groups: Tensor
    disliked: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        """Args: RecBole's config and the training part of a dataset, the liked augmented edges in it."""
        super().__init__(config, dataset)
        self.register_buffer("disliked", self._disliked(dataset), persistent=False)
        self.part = ""
        self._names = (user_tokens(dataset), item_tokens(dataset))
        self._met = met_pairs(dataset)
        self._opinions: rerank.Reranker | None = None
        self._seed = int(config["seed"])

    @classmethod
    def trained_as(cls, settings: LAGCL4RecSettings, preset: LAGCL4RecSettings) -> dict[str, Any]:
        """Settings that train the same weights; runs that share them are one training.

        The rerank level trains nothing here, and without an explicit term neither do disliked candidates.
        """
        names = [name for name in type(settings).model_fields if name.startswith("rerank_")]
        same = {name: getattr(preset, name) for name in names} | {"rerank": "off"}
        if not settings.explicit_negative_weight:
            same["augment"] = {"positive": "both", "negative": "none"}.get(settings.augment, settings.augment)
        return same

    @classmethod
    def needs(cls, settings: LAGCL4RecSettings) -> list[Need]:
        """Augmented edges and groups, unless they are off."""
        asked = settings.oracle, settings.profiles, settings.oracle_options
        found: list[Need] = []
        if settings.augment != "none":
            found.append(
                Augmentation(
                    "edges",
                    settings.augment,
                    settings.augment_users,
                    settings.augment_k,
                    settings.augment_top,
                    settings.augment_until,
                    *asked,
                    STAGES[settings.backbone],
                )
            )
        if settings.groups != "none":
            counts = settings.n_item_groups, settings.n_user_groups
            found.append(Groups("groups_file", settings.groups, counts, *asked))
        if settings.rerank != "off":
            found.append(RerankTexts("rerank_texts", *asked))
        if settings.rerank == "classifier":
            found.append(
                Reranker("reranker", rerank.classifier_plan(settings), *asked, STAGES[settings.backbone])
            )
        return found

    def make_encoder(self, users: Tensor, items: Tensor) -> LightEncoder:
        """The encoder that `backbone` names."""
        options = self.options
        base = (users, items, self.n_users, self.n_items, options.n_layers)
        match options.backbone:
            case "xsimgcl":
                return XSimGCLEncoder(*base, noise=options.noise, contrast_layer=options.contrast_layer)
            case "simgcl":
                return SimGCLEncoder(*base, noise=options.noise)
            case "sgl":
                return SGLEncoder(*base, drop=options.edge_drop)
            case _:
                return LightEncoder(*base)

    def make_negatives(self, dataset: Any, users: Tensor, items: Tensor) -> GroupNegatives:
        """Sampler by groups of items; groups of all nodes are kept for the contrast."""
        if self.options.augmented_seen:
            learnt = dataset.inter_feat
            users = torch.cat([users, learnt[dataset.uid_field]])
            items = torch.cat([items, learnt[dataset.iid_field]])
        sides = ("user", user_tokens(dataset)), ("item", item_tokens(dataset))
        parts = [self._side_groups(side, tokens) for side, tokens in sides]
        self.register_buffer("node_groups", torch.cat(parts), persistent=False)  # [n], each side from 0
        return GroupNegatives(parts[1], users, items, self.n_users)

    def _side_groups(self, side: str, tokens: list[str]) -> Tensor:
        """Groups of users or items; one for all where they are not grouped."""
        if self.options.groups == "none" or self.options.group_sides not in ("both", f"{side}s"):
            return torch.zeros(len(tokens), dtype=torch.long)
        if not self.options.groups_file:
            raise UserError(
                "LAGCL4Rec needs groups_file: pass config_dict=recbole_settings('LAGCL4Rec', dataset), or "
                "run benchmarks/run.py --model=LAGCL4Rec, or set groups: none"
            )
        return read_groups(Path(self.options.groups_file), side, tokens)

    def enter_part(self, part: str) -> None:
        """Which part is judged: the rerank level speaks on the test part alone."""
        self.part = part

    def _disliked(self, dataset: Any) -> Tensor:
        """A disliked candidate of every user, 0 without any: `[U, most]`, filled up with 0."""
        found: list[list[int]] = [[] for _ in range(self.n_users)]
        if file := self.options.edges:
            numbers = [dataset.field2token_id[name] for name in (dataset.uid_field, dataset.iid_field)]
            for line in Path(file).read_text(encoding="utf-8").splitlines():
                user, item, value = line.split("\t")
                if float(value) <= 1:
                    found[numbers[0][user]].append(numbers[1][item])
        most = max(1, *map(len, found))
        return torch.tensor([row + [0] * (most - len(row)) for row in found], dtype=torch.long)

    # -- losses ------------------------------------------------------------------------

    def drawn_items(self, users: Tensor, items: Tensor) -> Tensor:
        """Each row's positive, easy and hard item, and with an explicit term a disliked one. `[B, 3 or 4]`"""
        of = self.negatives.group[items]
        drawn = [items, self.negatives.outside(users, of), self.negatives.inside(users, of)]
        if self.options.explicit_negative_weight:
            rows = self.disliked[users]
            counts = (rows > 0).sum(1)
            column = (torch.rand(len(users), device=users.device) * counts).long()
            drawn.append(rows.gather(1, column.unsqueeze(1)).squeeze(1))  # 0 where there is none
        return torch.stack(drawn, dim=1)

    def ranking_loss(self, scores: Tensor, drawn: Tensor) -> Tensor:
        """Group-BPR; scores of `drawn_items`. `[B, 3 or 4]`"""
        loss = floored_bpr(scores[:, 0], scores[:, 1])
        if self.options.hard_weight:
            loss = loss + self.options.hard_weight * floored_bpr(scores[:, 0], scores[:, 2])
        if self.options.explicit_negative_weight and bool((there := drawn[:, 3] > 0).any()):
            told = floored_bpr(scores[there, 0], scores[there, 3])
            loss = loss + self.options.explicit_negative_weight * told
        return loss

    def contrast(self, anchor: Tensor, other: Tensor, nodes: Tensor) -> Tensor:
        """Mean Group-InfoNCE of nodes of one side; without groups, InfoNCE at temperature tau."""
        side = "users" if int(nodes[-1]) < self.n_users else "items"
        grouped = self.options.groups != "none" and self.options.group_sides in ("both", side)
        if self.options.contrast == "plain" or not grouped:
            return super().contrast(anchor, other, nodes)
        tau = group_temperatures(self.options.tau, equal=self.options.group_temperatures == "equal")
        return group_infonce(anchor, other, self.node_groups[nodes], tau, self.options.contrast_hard_weight)

    # -- rerank level ------------------------------------------------------------------

    def predict(self, interaction: Any) -> Tensor:
        """Score of each (user, item) row. `[B]`"""
        if not self._reranks:
            return super().predict(interaction)
        scores = self.full_sort_predict(interaction).view(len(interaction), -1)
        return scores.gather(1, interaction[self.ITEM_ID].unsqueeze(1)).squeeze(1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items for each row's user, reranked on the test part. `[B * N]`"""
        scores = super().full_sort_predict(interaction)
        if not self._reranks:
            return scores
        users = interaction[self.USER_ID]
        options = self.options
        new = rerank.reordered(
            scores.view(len(users), -1),
            self._seen(users),
            options.rerank_top,
            lambda items, values: self._asked(users, items, values),
            options.rerank_weight,
            options.rerank_mix,
        )
        return new.view(-1)

    @property
    def _reranks(self) -> bool:
        return self.part == "test" and self.options.rerank != "off"

    def _seen(self, users: Tensor) -> Tensor:
        """What each user was trained on. `[B, N]`"""
        distinct, back = users.cpu().unique(return_inverse=True)
        place = torch.full((self.n_users,), -1)
        place[distinct] = torch.arange(len(distinct))
        rows, items = place[self._met[0]], self._met[1]
        mask = torch.zeros(len(distinct), self.n_items, dtype=torch.bool)
        mask[rows[rows >= 0], items[rows >= 0]] = True
        return mask[back].to(users.device)

    def _asked(self, users: Tensor, items: Tensor, values: Tensor) -> Any:
        """Opinions of items `[B, k]`, 0 where there is none, by external tokens."""
        if self._opinions is None:
            self._opinions = self._open_reranker()
        names, tokens = self._names
        lists = [[tokens[item] for item in row if item] for row in items.tolist()]
        return self._opinions.opinions([names[user] for user in users.tolist()], lists, values.cpu().numpy())

    def _open_reranker(self) -> rerank.Reranker:
        """The classifier, or the oracle."""
        options = self.options
        if not options.rerank_texts:
            raise UserError("LAGCL4Rec.rerank needs rerank_texts: run benchmarks/run.py, or set rerank: off")
        names, tokens = self._names
        rows = enumerate(self.disliked.tolist())
        more = {names[user]: [tokens[item] for item in row if item] for user, row in rows}
        return rerank.opened(options, self._seed, more, self.nodes.weight.device)

    @property
    def asked(self) -> dict[str, Any]:
        """What a reranking oracle's answers cost so far, by task."""
        return self._opinions.costs if isinstance(self._opinions, rerank.OracleReranker) else {}

    @property
    def notes(self) -> list[str]:
        """What a reader of this model's row must know."""
        if self.options.rerank in ("off", "classifier"):
            return []
        who = "heuristic (not an LLM)" if self.options.oracle == "heuristic" else self.options.oracle
        return [f"reranked by {who}, {self.options.rerank}"]

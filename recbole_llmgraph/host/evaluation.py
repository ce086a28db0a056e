"""Full-sort evaluation: one pass of scores, two masks, RecBole's evaluator, per-user values kept.

RecBole masks seen items for general models and not for sequential ones, and throws
per-user values away. Here every model is judged twice from the same scores, with mask
`none` and with mask `train` (items the user met in *training*), and each user's values stay.
"""

import time
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from torch import Tensor

from recbole_llmgraph.base.progress import track
from recbole_llmgraph.host.batches import Rows, load_batch
from recbole_llmgraph.host.dataset import Split

Mask = Literal["none", "train"]
MASKS: tuple[Mask, ...] = ("none", "train")
#: Scores held at once, 32 MB; sets how many users an evaluation batch has.
SCORES_AT_ONCE = 8_000_000


@dataclass
class Judgement:
    """What an evaluation found.

    Attributes:
        metrics: mask -> metric (`recall@10`) -> mean over users, as RecBole's evaluator gives it.
        per_user: one row a user, by position in the split; columns `metric|mask`.
        items: mask -> ids of the best items, best first; 0 where a user has no more candidates.
            `[n_users, max topk]`
        users: positions' internal user ids. `[n_users]`
        seconds: scoring and ranking time.
    """

    metrics: dict[Mask, dict[str, float]]
    per_user: pd.DataFrame
    items: dict[Mask, npt.NDArray[np.int32]]
    users: npt.NDArray[np.int64]
    seconds: float

    @property
    def users_per_second(self) -> float:
        """Evaluated users a second."""
        return len(self.users) / max(self.seconds, 1e-9)


class Judge:
    """Evaluates models on one split."""

    def __init__(self, split: Split, *, accelerate: bool = True) -> None:
        """Args: split to judge on; `accelerate` sorts sequences by length and cuts padding (exact)."""
        self.split = split
        self.accelerate = accelerate
        self.topk = max(split.config["topk"])
        self.evaluator = Evaluator(split.config)

    @torch.no_grad()
    def __call__(self, model: Any, part: Literal["valid", "test"], what: str = "") -> Judgement:
        """Rank all items for every user of a part.

        `model` gives `full_sort_predict`; where it has `enter_part`, it is told which part is judged.
        """
        model.eval()
        if hasattr(model, "enter_part"):
            model.enter_part(part)
        loader = getattr(self.split, part)
        batches = self._batches(loader)
        started = time.perf_counter()
        found = [self._batch(model, loader, rows) for rows in track(batches, what or part, unit="batch")]
        seconds = time.perf_counter() - started
        users = torch.cat([users for users, _, _ in found]).numpy()
        order = np.argsort(users, kind="stable")
        hits = {mask: torch.cat([h[mask] for _, h, _ in found])[order] for mask in MASKS}
        items = {mask: torch.cat([i[mask] for _, _, i in found])[order].numpy() for mask in MASKS}
        metrics = {mask: self._means(hits[mask]) for mask in MASKS}
        per_user = pd.concat([self._per_user(hits[mask]).add_suffix(f"|{mask}") for mask in MASKS], axis=1)
        return Judgement(metrics, per_user, items, users[order], seconds)

    def verdict(self, hits: Tensor) -> tuple[dict[str, float], pd.DataFrame]:
        """Means over users by metric, and each user's values, of a hit matrix. `[n_users, topk + 1]`"""
        return self._means(hits), self._per_user(hits)

    def _batches(self, loader: Any) -> list[Rows]:
        """Rows of each batch: as many as fit, similar lengths together (RecBole: one user a batch)."""
        rows = np.arange(loader.sample_size)
        if self.accelerate and loader.is_sequential:
            dataset = loader._dataset
            rows = np.argsort(dataset.inter_feat[dataset.item_list_length_field].numpy(), kind="stable")
        size = max(1, SCORES_AT_ONCE // self.split.n_items)
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _batch(
        self, model: Any, loader: Any, rows: Rows
    ) -> tuple[Tensor, dict[Mask, Tensor], dict[Mask, Tensor]]:
        """Users, hit matrix and best items of one batch, a mask each."""
        interaction, _, positive_u, positive_i = load_batch(loader, rows, self.accelerate)
        users = interaction[loader.uid_field]
        scores = model.full_sort_predict(interaction.to(model.device)).view(len(users), -1)
        scores = scores[:, : self.split.n_items].float()
        scores[:, 0] = -torch.inf
        positive = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
        positive[positive_u.to(scores.device), positive_i.to(scores.device)] = True
        count = positive.sum(dim=1, keepdim=True)
        hits: dict[Mask, Tensor] = {}
        items: dict[Mask, Tensor] = {}
        for mask in MASKS:
            if mask == "train":
                seen = self.split.training_matrix[users.cpu().numpy()].tocoo()
                scores[torch.from_numpy(seen.row).long(), torch.from_numpy(seen.col).long()] = -torch.inf
            best = _best(scores, self.topk)
            hits[mask] = torch.cat([positive.gather(1, best).int(), count.int()], dim=1).cpu()
            items[mask] = best.int().cpu()
        return users.cpu(), hits, items

    def _means(self, hits: Tensor) -> dict[str, float]:
        """RecBole's verdict on a hit matrix in its own format. `[n_users, topk + 1]`"""
        return {name: float(value) for name, value in self.evaluator.evaluate(_struct(hits)).items()}

    def _per_user(self, hits: Tensor) -> pd.DataFrame:
        """Each user's value of every metric, from RecBole's own metric classes."""
        columns = {}
        for name, metric in self.evaluator.metric_class.items():
            used = metric.used_info(_struct(hits))  # hits and numbers of targets; some ask for hits alone
            values = metric.metric_info(*used[: len(signature(metric.metric_info).parameters)])
            for k in self.split.config["topk"]:
                columns[f"{name}@{k}"] = values[:, k - 1]
        return pd.DataFrame(columns)


@torch.no_grad()
def best_unseen(model: Any, split: Split, k: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Best items of every user among those that the user did not meet in training.

    Args:
        model: gives `full_sort_predict` on users.
        split: its training part says what was met.
        k: items a user.

    Returns:
        Ids, best first, 0 where no candidate is left, and their scores. `[n_users - 1, k]` each, from user 1.
    """
    model.eval()
    k = min(k, split.n_items - 1)
    everyone = torch.arange(1, split.n_users)
    items, values = [], []
    for users in everyone.split(max(1, SCORES_AT_ONCE // split.n_items)):
        interaction = Interaction({split.dataset.uid_field: users}).to(model.device)
        scores = model.full_sort_predict(interaction).view(len(users), -1)[:, : split.n_items].float().cpu()
        scores[:, 0] = -torch.inf
        seen = split.training_matrix[users.numpy()].tocoo()
        scores[torch.from_numpy(seen.row).long(), torch.from_numpy(seen.col).long()] = -torch.inf
        best = _best(scores, k)
        items.append(best.int())
        values.append(scores.gather(1, best))
    return torch.cat(items).numpy(), torch.cat(values).numpy()


def _best(scores: Tensor, k: int) -> Tensor:
    """Ids of the `k` best items, best first; padding (0) where no candidate is left. `[B, N] -> [B, k]`"""
    best = scores.topk(k, dim=1)
    if best.values.isnan().any():  # NaN sorts before every number
        raise FloatingPointError("the model's scores hold NaN; lower learning_rate or set clip_grad_norm")
    return best.indices.masked_fill(best.values == -torch.inf, 0)


def _struct(hits: Tensor) -> DataStruct:
    struct = DataStruct()
    struct.set("rec.topk", hits)
    return struct

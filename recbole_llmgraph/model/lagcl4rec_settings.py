"""Settings of LAGCL4Rec; what they mean stands in `model/lagcl4rec.py`."""

from typing import Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from recbole_llmgraph.model.augmented import MODELS
from recbole_llmgraph.model.baseline.contrast import ContrastSettings, check_layer
from recbole_llmgraph.oracle.options import OracleOptions


class LAGCL4RecSettings(ContrastSettings):
    """Settings of LAGCL4Rec; defaults are the released ones where there are any."""

    epochs: PositiveInt = 50
    learning_rate: PositiveFloat = 3.5e-3
    train_batch_size: PositiveInt = 1024
    contrast_weight: NonNegativeFloat = 0.17
    tau: float = Field(default=1.0, ge=0.02)
    """Temperature of the positives; those of the others follow from it."""
    backbone: Literal["xsimgcl", "simgcl", "sgl", "lightgcn"] = "xsimgcl"
    noise: NonNegativeFloat = 0.2
    """Length of the noise in every layer (`xsimgcl`, `simgcl`)."""
    contrast_layer: PositiveInt = 1
    """Layer that the final vectors are contrasted with (`xsimgcl`)."""
    edge_drop: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the edges that each of an epoch's graphs lacks (`sgl`)."""
    hard_weight: NonNegativeFloat = 2.0
    """Weight of negatives of the positive's group in Group-BPR (w_h); 0 leaves them out."""
    contrast: Literal["group", "plain"] = "group"
    """Group-InfoNCE, or InfoNCE with one temperature for all."""
    contrast_hard_weight: NonNegativeFloat = 2.0
    """Weight of nodes of the same group in Group-InfoNCE (w_n)."""
    group_temperatures: Literal["released", "equal"] = "released"
    """Temperatures of Group-InfoNCE: tp, th and te as above, or tau for all."""
    explicit_negative_weight: NonNegativeFloat = 0.0
    """Weight of a BPR term against the disliked candidates of the data level."""
    augmented_seen: bool = False
    """Whether the data level's liked candidates count as met, so that they are never drawn as negatives."""
    groups: Literal["oracle", "replay", "kmeans", "random", "none"] = "oracle"
    group_sides: Literal["both", "items", "users"] = "both"
    """Who is grouped."""
    n_item_groups: NonNegativeInt = 0
    """Groups of items where nobody has fixed them; 0 is the rounded root of their number."""
    n_user_groups: NonNegativeInt = 0
    augment: Literal["both", "positive", "negative", "none"] = "both"
    """Sides of the data level that are kept."""
    augment_users: Literal["cold", "all"] = "cold"
    """Users with fewer training ratings than the median, or all."""
    augment_k: PositiveInt = 5
    augment_top: int = Field(default=50, ge=1, le=200)
    """Positives are chosen among this many best candidates, negatives below."""
    augment_until: int = Field(default=200, ge=1, le=200)
    """Lowest rank of a candidate, below `augment_top`."""
    profiles: Literal["oracle", "summary", "metadata"] = "oracle"
    """What items and users are described by (`suite/profiles.py`)."""
    oracle: str = "heuristic"
    """Who describes, chooses and groups."""
    oracle_options: dict[str, Any] = {}
    """Options of the oracle (`oracle/options.py`); keys come from the environment."""
    rerank: Literal["off", "classifier", "oracle_pointwise", "oracle_listwise"] = "classifier"
    rerank_top: PositiveInt = 20
    """Items that are reordered."""
    rerank_weight: float = Field(default=0.3, ge=0, le=1)
    """Weight of the opinions."""
    rerank_mix: Literal["softmax_rank", "zscore"] = "softmax_rank"
    rerank_backbone: str = "hub:Qwen/Qwen2.5-7B-Instruct"
    """Of `classifier`."""
    rerank_tuning: Literal["auto", "lora", "full"] = "auto"
    rerank_lora_rank: PositiveInt = 16
    rerank_dtype: Literal["fp32", "bf16"] = "bf16"
    """Type of a frozen backbone."""
    rerank_epochs: PositiveInt = 3
    rerank_learning_rate: PositiveFloat = 1e-5
    rerank_batch: PositiveInt = 8
    rerank_weight_decay: NonNegativeFloat = 0.01
    rerank_warmup: float = Field(default=0.03, ge=0, lt=1)
    rerank_positives: PositiveInt = 10
    """Liked items of the hold-out a user, at most."""
    rerank_candidates: PositiveInt = 20
    """Items of a user that the classifier learns from, liked ones among them."""
    rerank_rows: NonNegativeInt = 0
    """Rows that it learns from; 0 takes all."""
    rerank_piece: PositiveInt = 64
    """Tokens of an item, a profile or the rules in its prompt, at most."""
    rerank_texts: str = ""
    """File of texts; the suite fills it."""
    rerank_max_cost: str = ""
    """Limit on what an oracle's replies may cost; the suite fills it."""
    reranker: str = ""
    """Folder of the classifier; the suite fills it."""
    edges: str = ""
    """File of augmented edges; the suite fills it."""
    groups_file: str = ""
    """File of groups; the suite fills it."""

    @model_validator(mode="after")
    def _layer(self) -> Self:
        if self.backbone == "xsimgcl":
            check_layer(self.contrast_layer, self.n_layers)
        return self

    @model_validator(mode="after")
    def _data_level(self) -> Self:
        """There are candidates to dislike wherever they are asked for."""
        if self.augment != "none" and self.augment_top >= self.augment_until:
            told = f"augment_until {self.augment_until} is not below augment_top {self.augment_top}"
            raise ValueError(f"{told}: no ranks are left for negatives")
        if self.explicit_negative_weight and self.augment not in ("both", "negative"):
            raise ValueError(f"augment={self.augment} leaves explicit_negative_weight no disliked candidates")
        return self

    @field_validator("rerank", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        """Yaml reads a bare `off` as false."""
        return "off" if value is False else value

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

"""RecBole's own baseline models.

Importing them also imports `sine.py`, whose line 25 switches torch's anomaly detection on for the whole
process: every gradient is searched for NaN from then on, a quarter of a SASRec step. It is put back.
"""

import torch

_anomaly = torch.is_anomaly_enabled()

from recbole.model.general_recommender import BPR, LightGCN, Pop  # noqa: E402
from recbole.model.layers import TransformerEncoder  # noqa: E402
from recbole.model.loss import BPRLoss, EmbLoss  # noqa: E402
from recbole.model.sequential_recommender import BERT4Rec, Caser, GRU4Rec, S3Rec, SASRec  # noqa: E402

torch.autograd.set_detect_anomaly(_anomaly)

__all__ = [
    "BPR",
    "BERT4Rec",
    "BPRLoss",
    "Caser",
    "EmbLoss",
    "GRU4Rec",
    "LightGCN",
    "Pop",
    "S3Rec",
    "SASRec",
    "TransformerEncoder",
]

"""Text features are made once for a collection of texts and an encoder."""

import torch

from recbole_llmgraph.artifact.store import ArtifactStore
from recbole_llmgraph.artifact.tables import rows_for
from recbole_llmgraph.artifact.text_features import text_features, text_features_file

TEXTS = {"b7": "a red comb", "a1": "", "c3": "a blue comb", "d9": "screwdriver set"}


def test_rows_belong_to_their_tokens(tmp_path):
    table = text_features(TEXTS, "tfidf:8", ArtifactStore(tmp_path))
    rows = rows_for(table, ["b7", "c3", "d9", "a1"])
    assert rows.shape == (4, 8)
    assert rows.dtype == torch.float32
    assert rows[0] @ rows[1] > 0.2 > 0.05 > rows[0] @ rows[2]
    assert (rows[3] == 0).all()
    assert table.meta == {
        "encoder": "hashed TF-IDF + SVD-8 (not a language model)",
        "revision": "1",
        "empty": 1,
    }


def test_kept_by_texts_and_encoder(tmp_path):
    store = ArtifactStore(tmp_path)
    file = text_features_file(TEXTS, "tfidf:8", store)
    made = file.stat().st_mtime_ns
    assert text_features_file(dict(reversed(TEXTS.items())), "tfidf:8", store) == file
    assert file.stat().st_mtime_ns == made, "encoded again"
    assert text_features_file(TEXTS | {"a1": "soap"}, "tfidf:8", store) != file
    assert text_features_file(TEXTS, "tfidf:4", store) != file
    renamed = {("z" if token == "b7" else token): text for token, text in TEXTS.items()}
    assert text_features_file(renamed, "tfidf:8", store) != file

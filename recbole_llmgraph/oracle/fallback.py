"""What stands in for an answer that never became valid; always labelled `fallback`.

| task | fallback |
|---|---|
| `edge_pair`, `pos_gen`, `neg_gen` | none: the user goes without |
| `item_profile`, `user_profile` | metadata |
| `group_propose` | none: the members stay without a group until groups are assigned |
| `group_merge` | every group keeps its name |
| `group_assign` | the nearest group by words |
| `rerank_point` | none: the candidate keeps its score |
| `rerank_list` | the order in which the candidates were given |
"""

import json
from typing import Any

from recbole_llmgraph.oracle.heuristic import assign_by_text, profile_from_metadata
from recbole_llmgraph.oracle.questions import Question
from recbole_llmgraph.oracle.text import clean


def fallback(question: Question) -> Any:
    """Plain data in the form of the task's checked answer, or None; see the table above."""
    match question.task:
        case "item_profile" | "user_profile":
            return json.loads(profile_from_metadata(question, {}))
        case "group_propose":
            return {"groups": []}
        case "group_merge":
            return {line.id: clean(line.title) for line in question.lines("groups")}
        case "group_assign":
            return assign_by_text(question)
        case "rerank_list":
            return {"order": list(question.offered)}
        case _:
            return None

"""Published tables and claims as the site shows them."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from recbole_llmgraph.report.against import Beside, Line, PublishedBeside
from recbole_llmgraph.report.against_page import (
    header,
    measured_cells,
    plain_facts,
    plain_notes,
    published_text,
)
from recbole_llmgraph.report.claims import VERDICTS, Evidence, Judged, Ledger
from recbole_llmgraph.report.claims_page import evidence_words, verdict_words
from recbole_llmgraph.report.site_boards import row_href


def published_view(beside: PublishedBeside) -> dict[str, Any]:
    """One published table beside the store."""
    parts = []
    for dataset in dict.fromkeys(line.dataset for line in beside.lines):
        own = [line for line in beside.lines if line.dataset == dataset]
        heads = header(beside, own)
        parts.append({"dataset": dataset, "heads": heads, "lines": [_line(line) for line in own]})
    measured = sum(line.found is not None for line in beside.lines)
    return {
        "title": beside.table.title,
        "measured": f"{measured} of {len(beside.lines)} rows" if beside.table.kind == "metrics" else "counts",
        "facts": plain_facts(beside),
        "with_": "; ".join(beside.backbones) or "nothing was run",
        "parts": parts,
        "notes": list(plain_notes(beside)),
    }


def _line(line: Line) -> dict[str, Any]:
    """One published row."""
    cells: list[dict[str, Any]] = []
    href = row_href(line.found.board, line.found.row) if line.found else ""
    for beside in line.cells.values():
        cells += _cells(beside, line, href)
    if "users" not in line.cells:  # counts of a dataset are measured by no run
        told = [line.mask, "", "", "" if line.card.model else "not in this suite"]
        if line.found:
            row = line.found.row
            told = [line.mask, row["backbone"] or "none", line.found.board.preset, row["keys"][0][:8]]
        cells += [*(_cell(text) for text in told[:3]), _cell(told[3], href)]
    return {"name": line.row, "cells": cells}


def _cells(beside: Beside, line: Line, href: str) -> list[dict[str, Any]]:
    """Published number, measured number, difference."""
    measured, difference = measured_cells(beside, line)
    published = _cell(published_text(beside), struck=not beside.target)
    return [published, _cell(measured, href if measured else ""), _cell(difference)]


def _cell(text: str, href: str = "", *, struck: bool = False) -> dict[str, Any]:
    """What a cell says, where it leads, and whether it is struck out."""
    return {"text": text, "href": href, "struck": struck}


def ledger_view(ledger: Ledger, judged: Sequence[Judged]) -> dict[str, Any]:
    """One paper's claims."""
    counts = Counter(one.verdict for one in judged)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    claims = [
        {
            "says": one.claim.says,
            "where": one.claim.where,
            "verdict": one.verdict,
            "cls": one.verdict.replace(" ", "-"),
            "there": verdict_words(one) if one.verdict == "not run" else f"{one.there} comparisons",
            "lines": [_evidence(evidence, one) for evidence in one.evidence if evidence.found],
        }
        for one in judged
    ]
    return {"paper": ledger.paper, "backbone": ledger.backbone, "counts": told, "claims": claims}


def _evidence(one: Evidence, judged: Judged) -> str:
    """One comparison in a sentence."""
    assert one.found is not None
    words = evidence_words(one, ratio=bool(judged.claim.gain))
    backbones = {str(found.row["backbone"] or "none") for found in one.found}
    budgets = "; ".join(
        f"{found.row['model']} {json.loads(found.row['budget']).get('epochs', '?')} epochs"
        for found in one.found
    )
    return f"{words} (backbone {', '.join(sorted(backbones))}; {budgets}; seeds {one.weighed.seeds})"

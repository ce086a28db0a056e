"""The ledger of claims as a page."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recbole_llmgraph.report.claims import VERDICTS, Evidence, Judged, Ledger
from recbole_llmgraph.report.markdown import escape, key_link, table
from recbole_llmgraph.report.measured import Measured
from recbole_llmgraph.report.pages import GENERATED, Page
from recbole_llmgraph.report.words import metric_title

EXPLAINED = (
    "What the papers claim, decided by the runs of this store. **Reproduced**: every comparison of the claim "
    "holds, its 95 % interval over users (Student's t of the paired differences; of a ratio the percentile "
    "bootstrap) lies wholly where the claim says. **Not reproduced**: one interval lies wholly elsewhere. "
    "**Undecided**: an interval touches both. **Not run**: a run is missing. All comparisons of a claim must "
    "hold, so their number needs no correction. The interval speaks of other users, never of other seeds: "
    "the spread over seeds stands in a column of its own and is empty for one seed. A verdict is about the "
    "backbone and budget named below it, which are seldom the paper's."
)
#: One ledger with its verdicts.
Ruled = tuple[Ledger, Sequence[Judged]]


def claims_page(ruled: Sequence[Ruled], out: Path | None = None) -> Page:
    """All given ledgers; `out` is the folder the page will lie in, for links to runs."""
    parts = [GENERATED, "# Claims\n", f"{EXPLAINED}\n", _summary(ruled), ""]
    parts += [_section(ledger, judged, out) for ledger, judged in ruled]
    return Page("claims.md", "\n".join(parts))


def _summary(ruled: Sequence[Ruled]) -> str:
    """How many verdicts of each kind, by paper."""
    rows = []
    for ledger, judged in ruled:
        counts = Counter(one.verdict for one in judged)
        rows.append([escape(ledger.paper), *(str(counts[verdict]) for verdict in VERDICTS)])
    return table(["paper", *VERDICTS], rows)


def _section(ledger: Ledger, judged: Sequence[Judged], out: Path | None) -> str:
    """One paper: its claims, then the evidence of those that were run."""
    link = f" ([link]({quote(ledger.url, safe=':/')}))" if ledger.url else ""
    rows = [[escape(one.claim.says), escape(one.claim.where), _marked(one)] for one in judged]
    parts = [
        f"## {escape(ledger.paper)}{link}",
        f"Published with: {escape(ledger.backbone)}. Protocol `{ledger.protocol}`, mask `{ledger.mask}`.",
        table(["claim", "stands in", "verdict"], rows, left=3),
    ]
    parts += [_evidence(one, out) for one in judged if one.there]
    return "\n\n".join(parts) + "\n"


def verdict_words(one: Judged) -> str:
    """`reproduced`, or how much of it was run."""
    if one.verdict != "not run":
        return one.verdict
    known = "; ".join(f"{name}: {verdict}" for name, verdict in one.decided.items())
    there = f"{one.there} of {len(one.evidence)} comparisons"
    return f"not run ({there}{'; ' if known else ''}{known})"


def evidence_words(one: Evidence, *, ratio: bool) -> str:
    """One comparison in a sentence."""
    told, form = one.weighed, "{:+.1%}" if ratio else "{:+.4f}"
    names = " against ".join(who.asked.name for who in one.pair)
    means = " against ".join(f"{mean:.4f}" for mean in told.means)
    interval = " to ".join(form.format(end) for end in told.interval)
    seeds = "" if math.isnan(told.seed_half) else f", over seeds ± {told.seed_half:.4f}"
    where = f"{one.dataset} {metric_title(one.metric)}: {names}: {means}"
    return f"{where}, {form.format(told.value)}, 95 % over users {interval}{seeds}: {told.verdict}"


def _marked(one: Judged) -> str:
    """A verdict in a cell, those that were reached bold."""
    words = escape(verdict_words(one))
    return words if one.verdict == "not run" else f"**{words}**"


def _evidence(judged: Judged, out: Path | None) -> str:
    """Every comparison of a claim that was run."""
    what = "gain" if judged.claim.gain else "difference"
    header = [
        "dataset",
        "metric",
        "better?",
        "than",
        "",
        "",
        what,
        "95 % over users",
        "± over seeds",
        "seeds",
    ]
    rows = [_line(one, bool(judged.claim.gain), out) for one in judged.evidence if one.found]
    claimed = "" if judged.claim.gain is None else " Claimed: {:.0%} to {:.0%}.".format(*judged.claim.gain)
    title = f"### {escape(judged.claim.says)}: {judged.verdict}"
    return "\n\n".join(
        [
            title,
            f"{escape(judged.claim.where)}.{claimed}",
            table([*header, "verdict"], rows, left=4),
            _made_with(judged),
        ]
    )


def _line(one: Evidence, ratio: bool, out: Path | None) -> list[str]:
    """One comparison."""
    assert one.found is not None
    told = one.weighed
    form = "{:+.1%}" if ratio else "{:+.4f}"
    names = [
        f"{escape(who.asked.name)} {_links(row, out)}" for who, row in zip(one.pair, one.found, strict=True)
    ]
    seeds = "" if math.isnan(told.seed_half) else f"± {told.seed_half:.4f}"
    return [
        escape(one.dataset),
        metric_title(one.metric),
        *names,
        *(f"{mean:.4f}" for mean in told.means),
        form.format(told.value),
        " … ".join(form.format(end) for end in told.interval),
        seeds,
        str(told.seeds),
        told.verdict,
    ]


def _links(found: Measured, out: Path | None) -> str:
    """Keys of a row."""
    pairs = zip(found.row["keys"], found.row["folders"], strict=True)
    return " ".join(key_link(key, folder, out) for key, folder in pairs)


def _made_with(judged: Judged) -> str:
    """Backbone and budget of every row that decided."""
    rows = [found.row for one in judged.evidence if one.found for found in one.found]
    told = dict.fromkeys(_budget(row) for row in rows)
    return "\n".join(f"* {escape(text)}" for text in told)


def _budget(row: Mapping[Any, Any]) -> str:
    """`HeLLM (a=1): backbone builtin:llama-mini, budget epochs 5, stopping_step 2`."""
    budget = ", ".join(f"{key} {value}" for key, value in json.loads(row["budget"]).items()) or "unknown"
    ran = "" if math.isnan(row["epochs_run"]) else f", {row['epochs_run']:g} epochs run"
    return f"{row['model']}: backbone {row['backbone'] or 'none'}, budget {budget}{ran}"

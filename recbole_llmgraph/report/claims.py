"""A ledger of what the papers claim, each claim a test on the store.

A claim says that every row of one list beats every row of another, on named datasets and metrics; or that
the gain lies in a range. It is decided over users: the 95 % interval of the paired difference under the
claim's mask. All of its comparisons must hold, so that no correction for their number is due (an
intersection-union test: each is held at its own level).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import read_yaml
from recbole_llmgraph.base.settings import Settings
from recbole_llmgraph.data.catalogue import properties_folder
from recbole_llmgraph.report.leaderboard import Leaderboard, seed_interval
from recbole_llmgraph.report.measured import Asked, Measured, find_pair
from recbole_llmgraph.store.record import Mask

Verdict = Literal["reproduced", "not reproduced", "undecided", "not run"]
#: As the ledger's summary counts them.
VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced", "undecided", "not run")


class Who(Settings):
    """A model, whole but for the settings named."""

    model: str
    set: dict[str, JsonValue] = {}

    @property
    def asked(self) -> Asked:
        """The same for a search in the store."""
        return Asked(self.model, self.set)


class Claim(Settings):
    """One statement of a paper that a comparison of runs can decide."""

    name: str
    says: str
    where: str
    """Table, figure or sentence."""
    datasets: list[str]
    metrics: list[str]
    better: list[Who] = []
    than: list[Who] = []
    pairs: list[tuple[Who, Who]] = []
    """Instead of `better` and `than`: who beats whom."""
    gain: tuple[float, float] | None = None
    """Range of the relative gain; without it, any gain above zero will do."""

    @property
    def comparisons(self) -> list[tuple[Who, Who]]:
        """Who must beat whom."""
        return [*self.pairs, *product(self.better, self.than)]


class Ledger(Settings):
    """The claims of one paper."""

    name: str
    paper: str
    url: str = ""
    backbone: str
    protocol: str
    mask: Mask
    claims: list[Claim]


@dataclass(frozen=True)
class Weighed:
    """What the users say of one comparison.

    Attributes:
        means: of both sides over users and shared seeds.
        value, interval: the difference, or the relative gain where the claim gives a range, with its 95 %
            interval over users.
        seed_half: half of the 95 % interval of the difference over seeds, kept apart from the users';
            NaN for fewer than two shared seeds.
        seeds: runs on either side.
        verdict: of this comparison alone.
    """

    means: tuple[float, float] = (float("nan"), float("nan"))
    value: float = float("nan")
    interval: tuple[float, float] = (float("nan"), float("nan"))
    seed_half: float = float("nan")
    seeds: int = 0
    verdict: Verdict = "not run"


@dataclass(frozen=True)
class Evidence:
    """One comparison of a claim, on one dataset by one metric.

    Attributes:
        pair: who should beat whom.
        found: their rows; None where one was not run.
    """

    dataset: str
    metric: str
    pair: tuple[Who, Who]
    found: tuple[Measured, Measured] | None
    weighed: Weighed


@dataclass(frozen=True)
class Judged:
    """A claim and what the store says of it."""

    claim: Claim
    verdict: Verdict
    evidence: list[Evidence]

    @property
    def there(self) -> int:
        """Comparisons that have runs on both sides."""
        return sum(one.weighed.verdict != "not run" for one in self.evidence)

    @property
    def decided(self) -> dict[str, Verdict]:
        """Verdicts by dataset, of those where every comparison was run."""
        datasets = dict.fromkeys(one.dataset for one in self.evidence)
        told = {
            name: overall([one.weighed.verdict for one in self.evidence if one.dataset == name])
            for name in datasets
        }
        return {name: verdict for name, verdict in told.items() if verdict != "not run"}


@cache
def ledgers() -> dict[str, Ledger]:
    """Every ledger by name, sorted."""
    folder = properties_folder() / "claims"
    found = [read_ledger(path) for path in sorted(folder.glob("*.yaml"))]
    return {ledger.name: ledger for ledger in found}


def read_ledger(path: Path) -> Ledger:
    """Ledger in a yaml file.

    Raises:
        UserError: naming the claim and what is wrong with it.
    """
    values = read_yaml(path)
    claims = [
        Claim.read({"name": name, **body}, f"{path.name}: {name}") for name, body in values["claims"].items()
    ]
    for claim in claims:
        if not claim.comparisons or bool(claim.pairs) == bool(claim.better and claim.than):
            raise UserError(f"{path.name}: {claim.name}: give either pairs, or better and than")
    return Ledger.read({**values, "name": path.stem, "claims": claims}, path.name)


def choose_ledgers(names: Iterable[str]) -> list[Ledger]:
    """Ledgers whose name begins with one of the given; all without.

    Raises:
        UserError: for a name that no ledger begins with.
    """
    wanted = list(names)
    for name in wanted:
        if not any(known.startswith(name) for known in ledgers()):
            raise UserError(f"no ledger of claims '{name}'; known are {', '.join(ledgers())}")
    return [one for known, one in ledgers().items() if not wanted or known.startswith(tuple(wanted))]


def judge(ledger: Ledger, boards: Sequence[Leaderboard], datasets: Sequence[str] = ()) -> list[Judged]:
    """Verdicts on every claim of a ledger, on some datasets or on all that a claim names."""
    judged = []
    for claim in ledger.claims:
        named = [name for name in claim.datasets if not datasets or name in datasets]
        if named:
            evidence = [one for name in named for one in _evidence(claim, ledger, boards, name)]
            judged.append(Judged(claim, overall([one.weighed.verdict for one in evidence]), evidence))
    return judged


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """One comparison that fails refutes a claim; all must hold, and be run, to reproduce it."""
    for verdict in ("not reproduced", "not run", "undecided"):
        if verdict in verdicts:
            return verdict
    return "reproduced"


def _evidence(
    claim: Claim, ledger: Ledger, boards: Sequence[Leaderboard], dataset: str
) -> Iterator[Evidence]:
    """Every comparison of a claim on one dataset."""
    for pair in claim.comparisons:
        asked = (pair[0].asked, pair[1].asked)
        found = find_pair(boards, dataset, ledger.protocol, ledger.mask, asked)
        for metric in claim.metrics:
            weighed = _weigh(claim.gain, metric, found) if found else None
            yield Evidence(dataset, metric, pair, found, weighed or Weighed())


def _weigh(gain: tuple[float, float] | None, metric: str, found: tuple[Measured, Measured]) -> Weighed | None:
    """One comparison by one metric; None where a run does not have it."""
    from recbole_llmgraph.report.paired import gain_interval, mean_interval  # scipy: half a second
    from recbole_llmgraph.report.versus import paired_users

    one, other = found
    seeds, (left, right) = paired_users(one.row, other.row, one.board.mask)
    if metric not in left or metric not in right:
        return None
    a, b = left[metric].to_numpy(), right[metric].to_numpy()
    means = float(a.mean()), float(b.mean())
    if gain is None:
        value, interval = means[0] - means[1], mean_interval(a - b)
        verdict = decide(*interval, 0.0, float("inf"))
    else:
        value = means[0] / means[1] - 1 if means[1] else float("nan")
        interval = gain_interval(a, b)
        verdict = decide(*interval, *gain)
    return Weighed(means, value, interval, _seed_half(found, metric, seeds), len(seeds[0]), verdict)


def _seed_half(
    found: tuple[Measured, Measured], metric: str, seeds: tuple[Sequence[int], Sequence[int]]
) -> float:
    """Half of the 95 % interval of the difference over seeds that both sides ran; NaN without two such."""
    one, other = (side.values(metric, own) for side, own in zip(found, seeds, strict=True))
    return seed_interval(one - other) if seeds[0] == seeds[1] else float("nan")


def decide(low: float, high: float, least: float, most: float) -> Verdict:
    """Where an interval lies against the range that was claimed; touching zero difference proves nothing."""
    if least < low and high <= most:
        return "reproduced"
    return "not reproduced" if high <= least or low > most else "undecided"

"""The log of epochs beside a run: columns phase, epoch, loss, seconds (validation apart), valid."""

import csv
from itertools import groupby
from pathlib import Path
from statistics import median

EPOCHS = "epochs.csv"
#: How phases begin whose epochs only pick an epoch; a run's own training comes after them.
SELECTING = "select"


def read_epochs(folder: Path) -> list[dict[str, str]]:
    """Rows of a run's log as they were written; none where it is not there or cannot be read."""
    try:
        with (folder / EPOCHS).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error):
        return []


def epoch_seconds(folder: Path) -> float | None:
    """Seconds of an epoch of a run's training; None without a log that tells.

    The mean over its phases' medians, weighted by their epochs: an epoch in which the machine slept does not
    count, and phases of other lengths do.
    """
    rows = [row for row in read_epochs(folder) if number(row.get("seconds")) is not None]
    trained = [row for row in rows if not row.get("phase", "").startswith(SELECTING)] or rows
    total = 0.0
    for _, phase in groupby(trained, key=lambda row: row.get("phase")):
        seconds = [float(row["seconds"]) for row in phase]
        total += median(seconds) * len(seconds)
    return total / len(trained) if trained else None


def number(text: str | None) -> float | None:
    """A finite number, None for anything else."""
    try:
        found = float(text or "nan")
    except ValueError:
        return None
    return found if abs(found) < float("inf") else None

"""From source files to a prepared dataset: find, read, number, check, write whole or not at all."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import RELEASED_TEST, new_folder
from recbole_llmgraph.base.hashing import hash_data, hash_file
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.data import atomic
from recbole_llmgraph.data.assemble import Assembled, read_rows
from recbole_llmgraph.data.catalogue import DatasetCard
from recbole_llmgraph.data.features import write_feature
from recbole_llmgraph.data.itemside import add_items
from recbole_llmgraph.data.locate import Located, locate
from recbole_llmgraph.data.rows import BadRows, Policy

#: Raised when the same sources give other files than before: prepared folders are then made anew.
FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Prepared:
    """A dataset on disk.

    `folder` holds `<name>.inter`, `<name>.item`, `item_text.jsonl`, `time.tsv` where real times are known,
    `released_test.tsv` where a paper released its test part, `features/*.safetensors` and `manifest.json`.
    """

    card: DatasetCard
    folder: Path
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hash of the interactions and items, the same for every road that gives the same files."""
        return cast(str, self.manifest["fingerprint"])


def prepared(card: DatasetCard, data_dir: Path) -> Prepared | None:
    """The dataset when it is ready under `data_dir`, made by this version of the card; else None."""
    folder = data_dir / card.name
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = all(
            (folder / name).stat().st_size == entry["bytes"] for name, entry in manifest["outputs"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Prepared(card, folder, manifest) if whole and manifest.get("recipe") == _recipe(card) else None


def prepare(
    card: DatasetCard,
    data_dir: Path,
    *,
    source: Path | None = None,
    on_bad_rows: Policy = "error",
    force: bool = False,
) -> Prepared:
    """Make `<data_dir>/<card.name>/`, or return it at once when it is there.

    Args:
        card: what to prepare.
        data_dir: root of the prepared datasets.
        source: folder to look in first (then `$RECBOLE_LLMGRAPH_SOURCES`, then a download).
        on_bad_rows: `error` stops at the first bad row, `skip` leaves bad rows out and counts them.
        force: make it anew.

    Raises:
        UserError: one line with file, line and mend; nothing is left half-written.
    """
    ready = None if force else prepared(card, data_dir)
    if ready is not None:
        return ready
    folder = data_dir / card.name
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise UserError(
            f"{folder}: holds files that prepare did not write; move it away, or choose another --data"
        )
    say(f"preparing {card.name} …")
    bad = BadRows(on_bad_rows)
    located = locate(card, source)
    data, maps = read_rows(card, located, bad)
    add_items(card, located, maps, bad, data)
    with new_folder(folder) as temporary:
        _write(card, data, temporary)
        manifest = _manifest(card, located, data, temporary, bad)
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        (temporary / MANIFEST).write_text(text, encoding="utf-8")
        # another process may have made it meanwhile: then its folder stays
        if folder.exists() and (force or prepared(card, data_dir) is None):
            shutil.rmtree(folder)
    made = prepared(card, data_dir)
    if made is None:
        raise UserError(f"{folder}: is not what was just written; prepare {card.name} again with --force")
    say(_summary(made))
    return made


def _summary(made: Prepared) -> str:
    counts = made.manifest["counts"]
    shown = ", ".join(f"{counts[name]:,} {name}" for name in ("users", "items", "interactions"))
    return f"{made.card.name}: {shown}"


def _recipe(card: DatasetCard) -> str:
    kept = card.model_dump(
        exclude={"title", "aliases", "licence", "citation", "contamination", "mask_default"}
    )
    return hash_data({"format": FORMAT, **kept})


def _write(card: DatasetCard, data: Assembled, folder: Path) -> None:
    atomic.write_inter(folder / f"{card.name}.inter", data.interactions, card.rated)
    atomic.write_item(folder / f"{card.name}.item", data.items)
    atomic.write_text(folder / "item_text.jsonl", data.items)
    if data.times is not None:
        atomic.write_times(folder / "time.tsv", data.interactions, data.times)
    if data.test:
        atomic.write_test(folder / RELEASED_TEST, data.test)
    for name, feature in data.features.items():
        write_feature(folder / "features" / f"{name}.safetensors", feature)


def _manifest(
    card: DatasetCard, located: Located, data: Assembled, folder: Path, bad: BadRows
) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    outputs = {
        path.relative_to(folder).as_posix(): {"sha256": hash_file(path), "bytes": path.stat().st_size}
        for path in files
    }
    core = [outputs[f"{card.name}.inter"]["sha256"], outputs[f"{card.name}.item"]["sha256"]]
    return {
        "name": card.name,
        "recipe": _recipe(card),
        "fingerprint": hash_data(core),
        "counts": data.interactions.counts().model_dump(),
        "outputs": outputs,
        "sources": [
            {"file": found.path.name, "holds": kind, "converter": found.source.converter, "sha256": digest}
            for kind, found, digest in located.used(data.used)
        ],
        "text_fields": data.text_fields,
        "provenance_unknown": data.provenance_unknown,
        "notes": data.notes,
        "bad_rows": {"policy": bad.policy, "count": bad.count, "first": bad.first},
    }

"""`benchmarks/views.py`: encodings of GALRec's views, or nodes of graph models, projected and drawn."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.base.files import new_file
from recbole_llmgraph.base.progress import say
from recbole_llmgraph.suite.command import guarded
from recbole_llmgraph.suite.options import Parser, add_common, listing, seeds

OUT = Path("reports/figures")


def views_command(doc: str | None, arguments: Sequence[str]) -> int:
    """Parse, train what is missing, encode, draw; returns the exit code."""
    return guarded(lambda rest: _run(doc or "", rest))(arguments)


def _parser(doc: str) -> argparse.ArgumentParser:
    parser = Parser(doc)
    add_common(parser)
    parser.add_argument("--rows", type=int, default=2000, help="pairs or nodes drawn (default: 2000)")
    parser.add_argument(
        "--side", choices=["user", "item"], default="user", help="whose views (default: user)"
    )
    parser.add_argument(
        "--with",
        dest="variants",
        action="append",
        default=[],
        metavar="KEY=VALUE[,...]",
        help="graph models: draw the last named model with these settings too; repeatable",
    )
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder of the figure (default: {OUT})")
    parser.set_defaults(ray_address=None)  # two trainings, one after the other, in this process
    return parser


def _run(doc: str, arguments: Sequence[str]) -> int:
    options = _parser(doc).parse_args(list(arguments))
    text = listing(options)
    if text is not None:
        print(text)
        return 0
    if not options.model or len(options.dataset) != 1:
        raise UserError("name --model=GALRec, or graph models as --model=LightGCN,XSimGCL, and one --dataset")
    if "GALRec" in options.model and (len(options.model) > 1 or options.variants):
        raise UserError("GALRec is drawn alone: with and without its alignment")
    if len(seeds(options.seeds)) != 1:
        raise UserError(f"--seeds {options.seeds}: a picture shows one training; name one seed")
    if options.rows < 10:
        raise UserError(f"--rows {options.rows}: a density needs at least 10")
    _draw(options)
    return 0


def _draw(options: argparse.Namespace) -> None:
    if options.model == ["GALRec"]:
        _draw_alignment(options)
    else:
        _draw_nodes(options)


def _draw_alignment(options: argparse.Namespace) -> None:
    # Imported here and below: listing, --help and wrong names answer without loading torch.
    from recbole_llmgraph.report.figures_views import draw_views
    from recbole_llmgraph.suite.encodings import view_points
    from recbole_llmgraph.suite.many import house_of
    from recbole_llmgraph.suite.run import Runner

    cells = [cell for gal in ("false", "true") for cell in _planned(options, f"GALRec.gal={gal}")]
    if options.dry_run:
        for cell in cells:
            print(f"{cell.label}: gal {_settings(cell).gal}, {cell.settings.epochs} epochs")
        return
    points = view_points(Runner(house_of(options)), cells, options.side, options.rows)
    stem = options.out / f"views-{cells[0].dataset.name}-{_settings(cells[0]).source}-{options.side}"
    _write(points, stem)
    for path in draw_views(points, stem):
        say(str(path))


def _draw_nodes(options: argparse.Namespace) -> None:
    from recbole_llmgraph.report.figures_views import draw_views
    from recbole_llmgraph.store.runs import folder_name
    from recbole_llmgraph.suite.cell import variant_name
    from recbole_llmgraph.suite.many import house_of
    from recbole_llmgraph.suite.nodes import node_points
    from recbole_llmgraph.suite.run import Runner

    cells, last = _planned(options), options.model[-1]
    for variant in options.variants:
        cells.append(_planned(options, *(f"{last}.{part}" for part in variant.split(",")))[-1])
    if options.dry_run:
        for cell in cells:
            print(f"{cell.label}: {variant_name(cell) or 'preset'}, {cell.settings.epochs} epochs")
        return
    points = node_points(Runner(house_of(options)), cells, options.side, options.rows)
    facts = points.drop(columns=["x", "y"]).groupby("view", sort=False).first()
    print(facts.round(3).to_string())
    names = "-".join(dict.fromkeys(folder_name(cell.model.name) for cell in cells))
    stem = options.out / f"nodes-{cells[0].dataset.name}-{names}-{options.side}"
    _write(points, stem)
    for path in draw_views(points, stem, f"{options.side}s of {cells[0].dataset.name}"):
        say(str(path))


def _planned(options: argparse.Namespace, *sets: str) -> list[Any]:
    """Cells of the named models under more settings."""
    from recbole_llmgraph.suite.many import plan

    return plan(argparse.Namespace(**{**vars(options), "sets": [*options.sets, *sets]}))


def _write(points: Any, stem: Path) -> None:
    with new_file(stem.with_suffix(".csv")) as temporary:
        points.to_csv(temporary, index=False, float_format="%.4g")


def _settings(cell: Any) -> Any:
    """GALRec's, of a cell that may be any model's."""
    return cell.settings

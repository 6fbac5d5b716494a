"""Verbs of the leaderboard: adding a model, making the release, showing, building and verifying."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.command_line.options import Address, Database, Device, EngineName, app, terminal_reporter
from benchmark.commands import spell_command
from benchmark.errors import LeaderboardError

if TYPE_CHECKING:
    from benchmark.workflow.leaderboard import Addition

verbs = typer.Typer(
    help="Add models to the leaderboard, show it, build its site, verify result files.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(verbs, name="leaderboard")

Pool = Annotated[str, typer.Option(help="Pictures: bundled, imagenet:, imagefolder:, folder:PATH, ...")]
DataSet = Annotated[str, typer.Option(help="The public data set they are part of: cifar-10.")]
ReleaseName = Annotated[
    str, typer.Option("--release", help="Name or TOML file of the release, if not the one made for the pool.")
]
Conditions = Annotated[str, typer.Option(help="Only these kinds of references, with commas: natural, synthetic.")]
Workspace = Annotated[Path, typer.Option(help="Folder of studies and results; what is there is gone on with.")]
Pictures = Annotated[
    bool,
    typer.Option(
        "--pictures/--no-pictures",
        help="Put each unit's first task into the result file, small; not where the pool's licence forbids it.",
    ),
]
Results = Annotated[
    list[str] | None,
    typer.Option(
        help="Folder of result files; 'released' for those that come with vimi; may be repeated. "
        "By default the released ones and leaderboard/results."
    ),
]


@verbs.command()
def add(
    model: Annotated[
        str, typer.Argument(help="timm name, card, card's TOML file, module:function, or an entry point's name.")
    ] = "",
    study: Annotated[
        Path | None, typer.Option(help="Write the result files of a built study instead, people's answers included.")
    ] = None,
    pool: Pool = "bundled",
    data_set: DataSet = "",
    release: ReleaseName = "",
    conditions: Conditions = "",
    weights: Annotated[str, typer.Option(help="A checkpoint of the model's, or 'random' for an untrained one.")] = "",
    training_data: Annotated[
        str, typer.Option(help="What it was trained on, with commas, where its card does not say: imagenet-1k.")
    ] = "",
    training_images: Annotated[
        int | None, typer.Option(help="Pictures in the largest of these data sets.", min=1)
    ] = None,
    workspace: Workspace = Path("leaderboard"),
    pictures: Pictures = True,
    pool_sizes: Annotated[
        bool, typer.Option("--pool-sizes/--no-pool-sizes", help="With --study: measure scores over smaller pools.")
    ] = True,
    database: Database = "",
    device: Device = "auto",
    engine: EngineName = "local",
    address: Address = "",
) -> None:
    """Add a model: check it, build its stimuli, let machines answer, score, and write its result file."""
    from benchmark.workflow.leaderboard import add_model, add_study

    if bool(model) == (study is not None):
        raise LeaderboardError("Name a model to add, or give a built study with --study; one of the two.")
    if study is not None:
        added = add_study(
            study, workspace=workspace, pictures=pictures, pool_sizes=pool_sizes, device=device, database=database,
            reporter=terminal_reporter(),
        )  # fmt: skip
    else:
        added = add_model(
            model, pool=pool, data_set=data_set, release=release, conditions=_names(conditions), weights=weights,
            training_data=_names(training_data), training_images=training_images, workspace=workspace,
            pictures=pictures, device=device, engine=engine, address=address, reporter=terminal_reporter(),
        )  # fmt: skip
    _print_addition(added, workspace)


@verbs.command()
def release(
    pool: Pool = "bundled",
    data_set: DataSet = "",
    models: Annotated[str, typer.Option(help="Only these cards, with commas.")] = "",
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch weights that are not on this machine.")] = False,
    release_name: ReleaseName = "",
    conditions: Conditions = "",
    workspace: Workspace = Path("leaderboard"),
    pictures: Pictures = True,
    device: Device = "auto",
    engine: EngineName = "local",
    address: Address = "",
) -> None:
    """Add every model that has a card; with --pool imagenet:PATH --fetch, the real release."""
    from benchmark.workflow.leaderboard import make_release

    outcome = make_release(
        pool=pool, data_set=data_set, release=release_name, models=_names(models), fetch=fetch,
        conditions=_names(conditions), workspace=workspace, pictures=pictures, device=device, engine=engine,
        address=address, reporter=terminal_reporter(),
    )  # fmt: skip
    for added in outcome.added:
        _print_addition(added, workspace)
    for name, reason in outcome.skipped.items():
        print(f"Left out: {name}, {reason}.")
    if outcome.failed:
        raise LeaderboardError("\n".join(f"{name}: {reason}" for name, reason in outcome.failed.items()))


@verbs.command()
def show(
    results: Results = None,
    protocol: Annotated[str, typer.Option(help="Only this protocol: its name or its identity.")] = "",
    condition: Annotated[str, typer.Option(help="Only this kind of references.")] = "",
    observer: Annotated[str, typer.Option(help="Only this observer: people, features:CARD.")] = "",
    family: Annotated[str, typer.Option(help="Only this family of architectures.")] = "",
    model: Annotated[str, typer.Option(help="Only this model, with its validity panel.")] = "",
    form: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
) -> None:
    """Show the leaderboard: one table for each protocol, pool and condition."""
    from benchmark.command_line.leaderboard_tables import print_leaderboard, print_validity
    from benchmark.workflow.leaderboard import read_leaderboard

    board = read_leaderboard(
        results or (), protocol=protocol, condition=condition, observer=observer, family=family, model=model,
        reporter=terminal_reporter(),
    )  # fmt: skip
    print_leaderboard(board, form)
    if model and form == "table":
        for table in board:
            for row in table.rows:
                print_validity(table, row)


@verbs.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder of the site; it is replaced.")] = Path("site"),
    results: Results = None,
) -> None:
    """Write the leaderboard as a static site: tables, plots, a page for every model and every unit."""
    from benchmark.workflow.leaderboard import build_leaderboard_site

    print(build_leaderboard_site(out, results or (), reporter=terminal_reporter()))


@verbs.command()
def verify(
    files: Annotated[list[Path] | None, typer.Argument(help="Result files, or folders of them.")] = None,
    study: Annotated[Path | None, typer.Option(help="Recompute everything from this study as well.")] = None,
    against: Annotated[
        str,
        typer.Option(
            help="In place of files: the branch that this checkout is to be added to (origin/main). It must add "
            "exactly one result file, which is verified."
        ),
    ] = "",
    database: Database = "",
) -> None:
    """Recompute every number of result files from their counts, and say where a file differs."""
    from benchmark.command_line.leaderboard_tables import print_verification
    from benchmark.workflow.leaderboard import verify_results

    outcome = verify_results(files or (), against=against, study=study, database=database, reporter=terminal_reporter())
    print_verification(outcome)
    if not outcome.holds:
        raise typer.Exit(2)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def _print_addition(added: Addition, workspace: Path) -> None:
    """Say what was added, and what comes next."""
    from benchmark.command_line.leaderboard_tables import print_leaderboard

    folder = workspace / "results"
    print_leaderboard(added.board, "table")
    for path in added.paths:
        print(f"Result   {path}{'' if added.new else '  (nothing new: it was there before)'}")
    print(f"Study    {added.study}")
    if added.seconds:
        print("Took     " + ", ".join(f"{stage} {seconds:,.0f} s" for stage, seconds in added.seconds.items()))
    print(
        "See it among the others:\n  "
        + spell_command("leaderboard", "show", "--results", "released", "--results", folder)
        + "\nTo contribute it, copy the file to the same path below analysis/leaderboard/results in a fork of vimi and "
        "open a pull request. This is what will be run on it:\n  "
        + spell_command("leaderboard", "verify", added.paths[0] if added.paths else "FILE")
    )

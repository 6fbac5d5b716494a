"""Verbs of the leaderboard: adding a model, making the release, showing, building and verifying."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.command_line.options import (
    LEADERBOARD,
    Address,
    Database,
    Device,
    EngineName,
    GroupedVerbs,
    app,
    complete_card,
    complete_from,
    terminal_reporter,
)
from benchmark.command_line.reporting import Told, reporting
from benchmark.commands import spell_command
from benchmark.errors import LeaderboardError

if TYPE_CHECKING:
    from benchmark.workflow.leaderboard import Addition

verbs = typer.Typer(
    help="Add, show and verify results; build the site.", cls=GroupedVerbs, no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(verbs, name="leaderboard", rich_help_panel=LEADERBOARD)

Pool = Annotated[str, typer.Option(help="Use these pictures: bundled, imagenet:PATH, folder:PATH, ...")]
DataSet = Annotated[str, typer.Option(help="Name the public data set of the pictures: cifar-10.")]
ReleaseName = Annotated[str, typer.Option("--release", help="Use this release, by name or TOML file.")]
Conditions = Annotated[str, typer.Option(help="Make only these conditions: natural, synthetic.")]
Workspace = Annotated[Path, typer.Option(help="Keep studies and results in this folder.")]
Pictures = Annotated[
    bool, typer.Option("--pictures/--no-pictures", help="Store each unit's first task as small pictures.")
]
Results = Annotated[
    list[str] | None, typer.Option(metavar="FOLDER", help="Read this folder; 'released' is vimi's own.")
]


@reporting(verbs, "leaderboard add", LEADERBOARD)
def add(
    model: Annotated[
        str, typer.Argument(help="Add this timm name, card, file or MODULE:FUNCTION.", autocompletion=complete_card)
    ] = "",
    study: Annotated[Path | None, typer.Option(help="Add the answers of this built study instead.")] = None,
    pool: Pool = "bundled",
    data_set: DataSet = "",
    release: ReleaseName = "",
    conditions: Conditions = "",
    weights: Annotated[str, typer.Option(metavar="FILE", help="Load this checkpoint, or 'random'.")] = "",
    training_data: Annotated[str, typer.Option(help="Name what it was trained on, such as imagenet-1k.")] = "",
    training_images: Annotated[
        int | None, typer.Option(help="Count the pictures of the largest of these sets.", min=1)
    ] = None,
    workspace: Workspace = Path("leaderboard"),
    pictures: Pictures = True,
    pool_sizes: Annotated[
        bool, typer.Option("--pool-sizes/--no-pool-sizes", help="Score a --study over smaller pools, too.")
    ] = True,
    database: Database = "",
    device: Device = "auto",
    engine: EngineName = "local",
    address: Address = "",
) -> Told:
    """Add a model, or a built study, to the leaderboard.

    vimi checks the model, builds its stimuli, lets machine observers answer, scores, and writes a result file.
    Interrupted, the same command goes on where it stopped. With --study it writes the result files of a study that you
    have built, people's answers included.

    Several names are separated by commas. State training data if the model's card does not. Leave the pictures out with
    --no-pictures where the pool's licence forbids showing them.
    """
    from benchmark.command_line import facts
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
    return Told(lambda: facts.addition_facts(added), lambda: _print_addition(added, workspace))


@reporting(verbs, "leaderboard show", LEADERBOARD)
def show(
    results: Results = None,
    protocol: Annotated[str, typer.Option(help="Show only this protocol: its name or identity.")] = "",
    condition: Annotated[
        str, typer.Option(help="Show only this condition.", autocompletion=complete_from("natural", "synthetic"))
    ] = "",
    observer: Annotated[str, typer.Option(help="Show only this observer: people, features:CARD.")] = "",
    family: Annotated[str, typer.Option(help="Show only this family of architectures.")] = "",
    model: Annotated[str, typer.Option(help="Show only this model, with its validity panel.")] = "",
    form: Annotated[
        str,
        typer.Option(
            "--format", help="Print table, csv or json.", autocompletion=complete_from("table", "csv", "json")
        ),
    ] = "table",
) -> Told:
    """Show the leaderboard's tables.

    There is a table for each protocol, pool and condition. Without --results, vimi reads its released results and
    leaderboard/results; the option may be repeated. --model takes MODULE:FUNCTION, too, as leaderboard add does.
    --format csv and json print the rows alone, at full precision.
    """
    from benchmark.command_line import facts
    from benchmark.command_line.leaderboard_tables import print_leaderboard, print_validity
    from benchmark.workflow.leaderboard import read_leaderboard

    board = read_leaderboard(
        results or (), protocol=protocol, condition=condition, observer=observer, family=family, model=model,
        reporter=terminal_reporter(),
    )  # fmt: skip

    def print_board() -> None:
        print_leaderboard(board, form)
        if model and form == "table":
            for table in board:
                for row in table.rows:
                    print_validity(table, row)

    return Told(lambda: facts.board_facts(board, with_validity=bool(model)), print_board)


@reporting(verbs, "leaderboard verify", LEADERBOARD)
def verify(
    files: Annotated[list[Path] | None, typer.Argument(help="Verify these result files or folders.")] = None,
    study: Annotated[Path | None, typer.Option(help="Compare with this study, too.")] = None,
    against: Annotated[str, typer.Option(metavar="BRANCH", help="Verify the one file that this checkout adds.")] = "",
    database: Database = "",
) -> Told:
    """Recompute every number of result files.

    vimi computes all numbers again from the counts in a file, and names what differs. --against names the branch that
    this checkout is to be merged into (origin/main): it must add exactly one result file and change nothing else.
    Exit code 2 if a file does not hold.
    """
    from benchmark.command_line import facts
    from benchmark.command_line.leaderboard_tables import print_verification
    from benchmark.workflow.leaderboard import verify_results

    outcome = verify_results(files or (), against=against, study=study, database=database, reporter=terminal_reporter())

    def check() -> None:
        if not outcome.holds:
            raise typer.Exit(2)

    return Told(lambda: facts.verification_facts(outcome), lambda: print_verification(outcome), check)


@reporting(verbs, "leaderboard build", LEADERBOARD)
def build(
    out: Annotated[Path, typer.Option(help="Write the site to this folder; replace it.")] = Path("site"),
    results: Results = None,
) -> Told:
    """Build the leaderboard as a static site.

    The site has tables, plots and a page for every model and unit.
    """
    from benchmark.workflow.leaderboard import build_leaderboard_site

    page = build_leaderboard_site(out, results or (), reporter=terminal_reporter())
    return Told(lambda: {"page": page}, lambda: print(page))


@reporting(verbs, "leaderboard release", LEADERBOARD)
def release(
    pool: Pool = "bundled",
    data_set: DataSet = "",
    models: Annotated[str, typer.Option(help="Add only these cards, with commas.")] = "",
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch weights that are not on this machine.")] = False,
    release_name: ReleaseName = "",
    conditions: Conditions = "",
    workspace: Workspace = Path("leaderboard"),
    pictures: Pictures = True,
    device: Device = "auto",
    engine: EngineName = "local",
    address: Address = "",
) -> Told:
    """Add every model that has a card.

    With --pool imagenet:PATH --fetch, this makes the real release.
    """
    from benchmark.command_line import facts
    from benchmark.workflow.leaderboard import make_release

    outcome = make_release(
        pool=pool, data_set=data_set, release=release_name, models=_names(models), fetch=fetch,
        conditions=_names(conditions), workspace=workspace, pictures=pictures, device=device, engine=engine,
        address=address, reporter=terminal_reporter(),
    )  # fmt: skip

    def print_release() -> None:
        for added in outcome.added:
            _print_addition(added, workspace)
        for name, reason in outcome.skipped.items():
            print(f"Left out: {name}, {reason}.")

    def check() -> None:
        if outcome.failed:
            raise LeaderboardError("\n".join(f"{name}: {reason}" for name, reason in outcome.failed.items()))

    added = [*outcome.added]
    return Told(
        lambda: {
            "added": [facts.addition_facts(one) for one in added], "skipped": outcome.skipped, "failed": outcome.failed,
        },
        print_release,
        check,
    )  # fmt: skip


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

"""Verbs about dictionaries and other bases: train, show, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.command_line.machine import ModelName, Weights
from benchmark.command_line.options import BUILD, Device, app, complete_from, terminal_reporter
from benchmark.command_line.reporting import Told, reporting
from benchmark.commands import spell_command

dictionary_app = typer.Typer(help="Fit, show and check dictionaries and other bases.", no_args_is_help=True)
app.add_typer(dictionary_app, name="dictionary", rich_help_panel=BUILD)

BasisFile = Annotated[Path, typer.Argument(metavar="FILE", help="Read this basis, a safetensors file.")]


@reporting(dictionary_app, "dictionary train", BUILD)
def train(
    model: ModelName,
    layer: Annotated[str, typer.Option(metavar="NAME", help="Fit it to this layer or module, such as blocks.4.")],
    pool: Annotated[str, typer.Option(metavar="SOURCE", help="Learn from these pictures: folder:PATH, bundled, ...")],
    kind: Annotated[
        str,
        typer.Option(
            help="Fit this kind of basis.", autocompletion=complete_from("topk", "ordered", "pca", "rotation")
        ),
    ] = "topk",
    width: Annotated[int, typer.Option(help="Learn so many latents; 0 for the layer's width.", min=0)] = 1024,
    k: Annotated[int, typer.Option(help="Keep so many latents at a position.", min=1)] = 32,
    control: Annotated[
        str,
        typer.Option(
            help="Leave this part random, for a control.",
            autocompletion=complete_from("frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "other_seed"),
        ),
    ] = "",
    epochs: Annotated[int, typer.Option(help="Go through the positions so often; 0 as usual.", min=0)] = 0,
    positions: Annotated[int, typer.Option(help="Sample so many positions of a picture at most.", min=1)] = 256,
    held_out: Annotated[float, typer.Option(help="Measure on this share of the pictures.", min=0.01, max=0.9)] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed everything random with this number.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Write the file below this folder.")] = Path("dictionaries"),
    weights: Weights = "",
    device: Device = "auto",
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Skip and count files that are no readable picture.")
    ] = False,
) -> Told:
    """Fit a dictionary to a layer, or another basis.

    The kinds are topk and ordered (sparse autoencoders), pca and rotation (which take no width). An interrupted run
    goes on where it stopped when you run the same command again. One in five pictures is kept to measure on.
    """
    from benchmark.workflow.dictionaries import train_dictionary

    sparse = kind not in ("pca", "rotation")
    fitted = train_dictionary(
        model, layer, pool=pool, kind=kind, width=width or None if sparse else None, control=control, k=k,
        epochs=epochs or None, positions=positions, held_out=held_out, seed=seed, out=out, weights=weights,
        device=device, skip_unreadable=skip_unreadable, reporter=terminal_reporter(),
    )  # fmt: skip

    def show() -> None:
        from benchmark.command_line.tables import print_basis, print_next

        print_basis(fitted.card, fitted.path)
        print_next(spell_command("dictionary", "check", fitted.path, "--model", model))

    return Told(lambda: {"file": fitted.path, "card": fitted.card.model_dump(mode="json")}, show)


@reporting(dictionary_app, "dictionary show", BUILD)
def show_basis(file: BasisFile) -> Told:
    """Show a basis, and how well it describes its layer."""
    from benchmark.bases.base import read_card
    from benchmark.command_line.tables import print_basis

    card = read_card(file)
    return Told(lambda: {"file": file, "card": card.model_dump(mode="json")}, lambda: print_basis(card, file))


@reporting(dictionary_app, "dictionary check", BUILD)
def check_basis(
    file: BasisFile,
    model: Annotated[str, typer.Option(metavar="NAME", help="Check that it belongs to this model.")] = "",
    weights: Weights = "",
) -> Told:
    """Check whether a basis can be used, and for this model."""
    from benchmark.command_line.tables import print_findings
    from benchmark.workflow.dictionaries import check_dictionary

    findings = check_dictionary(file, model, weights=weights)

    def check() -> None:
        if any(finding.state == "fail" for finding in findings):
            raise typer.Exit(2)

    return Told(lambda: {"findings": findings}, lambda: print_findings(findings), check)

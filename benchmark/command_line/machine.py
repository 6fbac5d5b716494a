"""Verbs about this machine and the models it knows: doctor, models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.command_line.options import Device, app, terminal_reporter

ModelName = Annotated[
    str,
    typer.Argument(
        help="A card's name or TOML file, timm:NAME, NAME.TAG, an entry point's name, or MODULE:FUNCTION of your own."
    ),
]
Weights = Annotated[str, typer.Option(help="A checkpoint to load, or 'random'.")]

models_app = typer.Typer(help="Models: cards, layers and weights.", no_args_is_help=False, invoke_without_command=True)
app.add_typer(models_app, name="models")


@app.command()
def doctor() -> None:
    """Check the installation: versions, where packages are loaded from, weights, pictures."""
    from benchmark.command_line.tables import print_findings
    from benchmark.doctor import examine

    findings = examine()
    print_findings(findings)
    if any(finding.state == "fail" for finding in findings):
        raise SystemExit(1)


@models_app.callback()
def models(context: typer.Context) -> None:
    """List the models that have cards, and those that installed packages offer."""
    if context.invoked_subcommand is None:
        from benchmark.command_line.tables import print_cards

        print_cards()


@models_app.command("show")
def show_model(
    name: ModelName,
    weights: Weights = "",
    layers: Annotated[bool, typer.Option("--layers", help="List every eligible layer.")] = False,
) -> None:
    """Show a model: layers, units, what it was trained on, whether its weights are on this machine."""
    from benchmark.command_line.tables import print_model

    print_model(name, weights, layers)


@models_app.command("check")
def check_model(
    name: ModelName,
    weights: Weights = "",
    seed: Annotated[int, typer.Option(help="Seed of random weights and of the pictures.")] = 0,
    device: Device = "cpu",
    natural_only: Annotated[
        bool, typer.Option("--natural-only", help="Leave out what only synthetic pictures need: the gradient.")
    ] = False,
) -> None:
    """Test whether a model can be studied: weights, layers, activations, gradient, twin; takes seconds."""
    from benchmark.command_line.tables import print_smoke_test
    from benchmark.model_card import load_card
    from benchmark.smoke_test import smoke_test

    tested = smoke_test(
        load_card(name), weights=weights, seed=seed, device=device, synthetic=not natural_only,
        reporter=terminal_reporter(),
    )  # fmt: skip
    print_smoke_test(tested)
    tested.require()


@models_app.command("convert")
def convert_model(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that holds more than weights.")],
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
) -> None:
    """Take the weights out of a checkpoint without running any code from it."""
    from benchmark.conversion import convert_checkpoint

    print(f"{convert_checkpoint(checkpoint, out)} tensors written to {out}")

"""Verbs about this machine and the models it knows: doctor, models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.command_line.options import app

if TYPE_CHECKING:
    pass


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
    """List the models that have cards."""
    if context.invoked_subcommand is None:
        from benchmark.command_line.tables import print_cards

        print_cards()


@models_app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="A card's name, timm:NAME, NAME.TAG, or a card's TOML file.")],
    weights: Annotated[str, typer.Option(help="A checkpoint to load, or 'random'.")] = "",
    layers: Annotated[bool, typer.Option("--layers", help="List every eligible layer.")] = False,
) -> None:
    """Show a model: layers, units, what it was trained on, whether its weights are on this machine."""
    from benchmark.command_line.tables import print_model

    print_model(name, weights, layers)


@models_app.command("convert")
def convert_model(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that holds more than weights.")],
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
) -> None:
    """Take the weights out of a checkpoint without running any code from it."""
    from benchmark.conversion import convert_checkpoint

    print(f"{convert_checkpoint(checkpoint, out)} tensors written to {out}")

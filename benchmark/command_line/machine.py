"""Verbs about this machine and the models it knows: doctor, models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.command_line.options import BUILD, MAINTAIN, Device, app, complete_card, terminal_reporter
from benchmark.command_line.reporting import JsonOption, Told, reporting

ModelName = Annotated[
    str, typer.Argument(help="Use this card, timm:NAME, file or MODULE:FUNCTION.", autocompletion=complete_card)
]
Weights = Annotated[str, typer.Option(metavar="FILE", help="Load this checkpoint, or 'random' weights.")]

models_app = typer.Typer(help="List, show and test models.", no_args_is_help=False, invoke_without_command=True)
app.add_typer(models_app, name="models", rich_help_panel=BUILD)


@reporting(app, "doctor", MAINTAIN)
def doctor() -> Told:
    """Check the installation: packages, weights, pictures."""
    from benchmark.command_line.tables import print_findings
    from benchmark.doctor import examine

    findings = examine()

    def check() -> None:
        if any(finding.state == "fail" for finding in findings):
            raise typer.Exit(1)

    return Told(lambda: {"findings": findings}, lambda: print_findings(findings), check)


@reporting(models_app, "models list", BUILD)
def list_models() -> Told:
    """List the models that need no card of yours."""
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_cards

    found = facts.card_facts()
    return Told(lambda: found, lambda: print_cards(found))


@models_app.callback()
def models(context: typer.Context, json: JsonOption = False) -> None:
    """List, show and test models; without a verb, list them."""
    if context.invoked_subcommand is None:
        list_models(json=json)
    elif json:
        raise typer.BadParameter("give it after the verb", param_hint="--json")


@reporting(models_app, "models show", BUILD)
def show_model(
    name: ModelName,
    weights: Weights = "",
    layers: Annotated[bool, typer.Option("--layers", help="List every eligible layer.")] = False,
) -> Told:
    """Show a model: layers, units, training data, weights.

    NAME is a card's name or TOML file, timm:NAME or NAME.TAG of timm, the name of an entry point, or MODULE:FUNCTION of
    your own.
    """
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_model
    from benchmark.model_sources import load_card
    from benchmark.model_zoo import RANDOM, has_weights, load_model

    card = load_card(name)
    model = load_model(card, weights=weights or ("" if card.twin or has_weights(card) else RANDOM))
    return Told(lambda: facts.model_facts(model), lambda: print_model(model, card, weights, layers))


@reporting(models_app, "models check", BUILD)
def check_model(
    name: ModelName,
    weights: Weights = "",
    seed: Annotated[int, typer.Option(help="Seed random weights and pictures with this number.")] = 0,
    device: Device = "cpu",
    natural_only: Annotated[
        bool, typer.Option("--natural-only", help="Skip what only synthetic pictures need: the gradient.")
    ] = False,
) -> Told:
    """Test in seconds whether a model can be studied.

    It tests weights, layers, activations, gradient and random-weight twin. NAME is as in vimi models show.
    """
    from benchmark.command_line import facts
    from benchmark.command_line.tables import print_smoke_test
    from benchmark.model_sources import load_card
    from benchmark.smoke_test import smoke_test

    tested = smoke_test(
        load_card(name), weights=weights, seed=seed, device=device, synthetic=not natural_only,
        reporter=terminal_reporter(),
    )  # fmt: skip
    return Told(lambda: facts.smoke_test_facts(tested), lambda: print_smoke_test(tested), tested.require)


@reporting(models_app, "models convert", BUILD)
def convert_model(
    checkpoint: Annotated[Path, typer.Argument(help="Read this checkpoint, which holds more than weights.")],
    out: Annotated[Path, typer.Argument(help="Write this safetensors file.")],
) -> Told:
    """Take the weights out of a checkpoint, safely.

    No code in the checkpoint runs.
    """
    from benchmark.conversion import convert_checkpoint

    tensors = convert_checkpoint(checkpoint, out)
    return Told(lambda: {"tensors": tensors, "file": out}, lambda: print(f"{tensors} tensors written to {out}"))

"""What verbs share: the application with its grouped help, common options, progress."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from benchmark.progress import Reporter

BUILD, HOST, ANALYSE, LEADERBOARD, MAINTAIN = PANELS = ("Build", "Host", "Analyse", "Leaderboard", "Maintain")
"""The groups of verbs, in the order in which the help lists them."""

LONGEST_HELP = 60
"""Characters of a help line, at most: in 80 columns nothing longer fits beside a verb."""

_COMPLETION_HELP = {
    "install_completion": "Install completion for the shell you are using.",
    "show_completion": "Print the completion script of the shell you are using.",
}


def walk_verbs(group: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the path (``leaderboard show``) and the command of every verb, group by group, none of them hidden."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, TyperGroup):
            yield from walk_verbs(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


class GroupedVerbs(TyperGroup):
    """A command whose help sorts its verbs by group, those of sub-commands included, and cuts no line.

    It prints plain text, so that ``vimi --help`` does not have to load a library for panels.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, those that typer adds with help lines as short as the others."""
        params: list[Any] = list(super().get_params(ctx))
        for param in params:
            if short := _COMPLETION_HELP.get(param.name or ""):
                param.help = short  # type: ignore[attr-defined, unused-ignore]
        return params

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section a group."""
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in (*PANELS, "Commands")}
        for path, command in walk_verbs(self):
            line = (command.help or "").partition("\n")[0]
            panels[panel_of(command)].append((path, line))
        wide = max(len(path) for rows in panels.values() for path, _ in rows)
        for panel, rows in panels.items():
            if rows:
                with formatter.section(panel):
                    # Every name is as wide as the widest, so that all sections have one left edge.
                    formatter.write_dl([(path.ljust(wide), line) for path, line in rows], col_max=wide + 2)


def panel_of(command: Any) -> str:
    """Return the group that a verb belongs to."""
    panel = command.rich_help_panel
    return panel if isinstance(panel, str) else "Commands"


app = typer.Typer(
    name="vimi",
    cls=GroupedVerbs,
    help="Measure how well people understand units of vision models.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Device = Annotated[str, typer.Option(help="Run networks on this device: auto, cpu or cuda.")]
EngineName = Annotated[str, typer.Option("--engine", help="Work in this process (local), or on a cluster (ray).")]
Address = Annotated[str, typer.Option(metavar="HOST:PORT", help="Use this Ray cluster; start one here if not given.")]
StudyFolder = Annotated[Path, typer.Argument(help="Use the study in this folder.")]
Database = Annotated[str, typer.Option(metavar="URL", help="Use this database, not VIMI_DATABASE or the study's own.")]
Pilot = Annotated[bool, typer.Option("--pilot", help="Use the pilot's answers, not the study's.")]
Seed = Annotated[int, typer.Option(help="Seed everything random with this number.")]


def terminal_reporter() -> Reporter:
    """Return a reporter that shows progress: bars in a terminal, lines in a log."""
    from benchmark.progress import choose_reporter

    return choose_reporter()


def complete_from(*values: str) -> Callable[[str], list[str]]:
    """Return a function that completes one of these values in a shell."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def complete_card(incomplete: str) -> list[str]:
    """Complete the name of a model's card; only a folder is listed, so that a shell does not wait."""
    cards = Path(__file__).parent.parent / "cards"
    return sorted(path.stem for path in cards.glob("*.toml") if path.stem.startswith(incomplete))


def takes_settings(settings: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a verb an option for each field of a class of settings; it is called with them, as ``settings``.

    A field's metadata are what ``typer.Option`` takes.
    """

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(verb)
        def run(*args: Any, **values: Any) -> Any:
            own = {field.name: values.pop(field.name) for field in fields(settings)}
            return verb(*args, settings=settings(**own), **values)

        hints, options = get_type_hints(settings), []
        for field in fields(settings):
            flags = [f"--{field.name.replace('_', '-')}"] if hints[field.name] is bool else []
            annotation: Any = Annotated[hints[field.name], typer.Option(*flags, **field.metadata)]
            kind = inspect.Parameter.KEYWORD_ONLY
            options.append(inspect.Parameter(field.name, kind, default=field.default, annotation=annotation))
        signature = inspect.signature(verb, eval_str=True)
        others = [own for own in signature.parameters.values() if own.name != "settings"]
        run.__signature__ = signature.replace(parameters=[*others, *options])  # type: ignore[attr-defined]
        return run

    return decorate

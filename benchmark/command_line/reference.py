"""The reference of all verbs in docs/commands.md, written from the verbs themselves.

    python -m benchmark.command_line.reference        writes it anew

A test compares the page with the code.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

import benchmark.command_line  # noqa: F401  (it registers the verbs)
from benchmark.command_line.options import PANELS, app, panel_of, walk_verbs
from benchmark.storage import write_text

PAGE = Path("docs/commands.md")
BEGIN, END = "<!-- written by python -m benchmark.command_line.reference -->\n", "<!-- end of what is written -->\n"

EXIT_CODES = {
    0: "the verb did what it was asked; `vimi` alone and every `--help`, too",
    1: "the disk is full or can't be written; `vimi doctor` found a problem; or a defect of vimi, with a traceback",
    2: "you can put it right: an argument, a file, a study, answers; or a result file does not hold",
    130: "you interrupted it with Ctrl-C; what was finished is kept",
}
"""What an exit code means."""

ENVIRONMENT = {
    "VIMI_DATABASE": "URL of the database of people's answers: `sqlite:///FILE` or `postgresql://…`",
    "VIMI_SECRET": "key by which people are recognised; by default vimi keeps one in the database",
    "VIMI_ADMIN_HASH": "hash of the experimenter's password, from `vimi password`; without it, no page `/admin`",
    "PROLIFIC_TOKEN": "token of Prolific's API, for `vimi recruitment --prolific-api`",
    "VIMI_CACHE": "folder of the cache of pictures; `off` turns it off",
    "VIMI_THREADS": "threads that torch computes with; by default all that this process may use",
}
"""What an environment variable changes."""


def describe_verbs() -> str:
    """Return exit codes, environment variables and all verbs as Markdown."""
    lines = ["## Exit codes", "", "| code | meaning |", "| --- | --- |"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    lines += ["", "## Environment variables", "", "| variable | what it sets |", "| --- | --- |"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in ENVIRONMENT.items()]
    verbs = list(walk_verbs(typer.main.get_command(app)))
    for panel in PANELS:
        lines += ["", f"## {panel}"]
        for path, command in verbs:
            if panel_of(command) == panel:
                lines += ["", *_describe(path, command)]
    return "\n".join(lines) + "\n"


def _describe(path: str, command: Any) -> list[str]:
    """Return a verb's section: how it is called, what it does, its arguments and options."""
    parameters = [own for own in command.params if own.name != "help"]
    arguments = [own for own in parameters if own.param_type_name == "argument"]
    spelled = " ".join(_spell_argument(own) for own in arguments)
    lines = [f"### vimi {path}", "", f"`vimi {path}{' ' + spelled if spelled else ''} [OPTIONS]`", ""]
    lines += [" ".join(part.split()) + "\n" for part in (command.help or "").split("\n\n")]
    lines[-1] = lines[-1].rstrip()
    lines += ["", "| argument or option | | default |", "| --- | --- | --- |"]
    for own in parameters:
        name = _spell_argument(own) if own in arguments else "`, `".join([*own.opts, *own.secondary_opts])
        lines.append(f"| `{name}` | {(own.help or '').replace('|', '/')} | {_spell_default(own)} |")
    return lines


def _spell_argument(argument: Any) -> str:
    name = str(argument.name).upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _spell_default(parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        return "required"
    if default in (None, "", ()) or default is False or callable(default):
        return ""
    return "on" if default is True else f"`{default}`"


def renew(page: str) -> str:
    """Return the page with what is written from the code renewed."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{describe_verbs()}\n{END}{after}"


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    write_text(place, renew(place.read_text(encoding="utf-8")))

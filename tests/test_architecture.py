"""The shape of the code: imports run one way, light things stay light, nothing unpickles, names say what they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("benchmark", "stimuli", "analysis", "webapp")
COMPOSITION_ROOT = "benchmark/workflow/"

MAY_IMPORT = {
    "benchmark": {"benchmark"},
    "stimuli": {"benchmark", "stimuli"},
    "analysis": {"benchmark", "analysis"},
    "webapp": {"analysis", "benchmark", "webapp"},
}


def source_files() -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@cache
def parse(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), file)


def imported(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports, names of a ``from`` import included."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "Imports are absolute."
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def imports_below(tree: ast.AST, *, in_functions: bool) -> Iterator[str]:
    """Yield what a module imports, but not what it imports for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not in_functions:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield from imported(node)
        yield from imports_below(node, in_functions=in_functions)


def imports_of(file: str) -> list[str]:
    """Return all that a module ever imports while it runs."""
    return list(imports_below(parse(file), in_functions=True))


def imports_when_loaded(file: str) -> list[str]:
    """Return what a module imports as soon as it is loaded itself."""
    return list(imports_below(parse(file), in_functions=False))


def own(names: list[str]) -> set[str]:
    """Return which of the four packages are imported."""
    return {name.partition(".")[0] for name in names} & set(PACKAGES)


FILES = source_files()


def broken(rule: Callable[[str], Iterator[str]]) -> list[str]:
    """Return every place in the code that breaks a rule, each with its file."""
    return [f"{file}: {place}" for file in FILES for place in rule(file)]


def test_the_packages_are_where_these_tests_look() -> None:
    assert {file.partition("/")[0] for file in FILES} == set(PACKAGES)
    assert [file for file in FILES if file.startswith(COMPOSITION_ROOT)] and len(FILES) > 50


# ---------------------------------------------------------------- imports


def against_the_way(file: str) -> Iterator[str]:
    """Yield the packages that a module must not import."""
    if file.startswith(COMPOSITION_ROOT):
        yield from own(imports_when_loaded(file)) - {"benchmark"}
    else:
        yield from own(imports_of(file)) - MAY_IMPORT[file.partition("/")[0]]


def test_imports_run_one_way() -> None:
    assert broken(against_the_way) == []


def test_no_modules_import_one_another_in_a_circle_not_even_inside_functions() -> None:
    modules = {file.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): file for file in FILES}
    needed = {
        name: {found for whole in imports_of(file) if (found := _module_of(whole, modules)) and found != name}
        for name, file in modules.items()
    }
    try:
        list(TopologicalSorter(needed).static_order())
    except CycleError as error:
        pytest.fail(f"These modules import one another: {' -> '.join(error.args[1])}")


def _module_of(name: str, modules: Collection[str]) -> str:
    """Return the module that an imported name is, or is in."""
    return name if name in modules else name.rpartition(".")[0] if name.rpartition(".")[0] in modules else ""


def test_the_composition_root_joins_the_packages() -> None:
    joined = [own(imports_of(file)) for file in FILES if file.startswith(COMPOSITION_ROOT)]
    assert {"stimuli", "analysis", "webapp"} <= set().union(*joined)


def modules_loaded_by(statement: str) -> set[str]:
    """Return the top-level names of all modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint('loaded:', *sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


WITHOUT_TORCH = (
    "analysis", "benchmark.trials", "benchmark.responses", "benchmark.database", "webapp.server",
    "webapp.screens.participant", "webapp.screens.experimenter", "webapp.screens.leaderboard", "webapp.export",
    "webapp.simulation", "webapp.backup", "webapp.payment", "webapp.submissions",
)  # fmt: skip


def test_what_reads_a_study_works_without_torch() -> None:
    """One interpreter imports one package after the other: whichever brings torch, the rest would have it, too."""
    modules = [file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in FILES]
    code = ["import sys"]
    for package in WITHOUT_TORCH:
        within = [name for name in modules if f"{name}.".startswith(f"{package}.")]
        assert within, package
        code.append(f"import {', '.join(within)}")
        heavy = {"torch", "torchvision", "timm", "lucent", "kornia"}
        code.append(f"assert not {heavy} & set(sys.modules), {package!r}")
    loaded = modules_loaded_by("\n".join(code))
    assert {"analysis", "benchmark", "webapp"} <= loaded


HEAVY = {
    "PIL", "analysis", "jinja2", "kornia", "lucent", "matplotlib", "pandas", "pyarrow", "ray", "safetensors", "scipy",
    "skimage", "sklearn", "sqlalchemy", "statsmodels", "stimuli", "streamlit", "timm", "torch", "torchvision", "webapp",
}  # fmt: skip
"""What takes tenths of a second or more to load: only work may load it, no question about the program itself."""


def test_heavy_modules_are_called_by_their_names() -> None:
    assert {name for name in HEAVY if find_spec(name) is None} <= {"ray"}, "ray comes with vimi[cluster]"


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = modules_loaded_by("import benchmark")
    assert "benchmark" in loaded
    assert not loaded & (HEAVY | {"numpy", "pydantic", "typer", "rich"})


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--version"],
        ["build", "--help"],
        ["models", "--help"],
        ["serve", "--help"],
        ["analyze", "--help"],
        ["leaderboard", "--help"],
        ["leaderboard", "show", "--help"],
    ],
)
def test_the_command_line_answers_questions_about_itself_without_torch(arguments: list[str]) -> None:
    statement = (
        "import sys\n"
        f"sys.argv = {['vimi', *arguments]!r}\n"
        "from benchmark.command_line import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert not left.code, left.code"
    )
    loaded = modules_loaded_by(statement)
    assert "typer" in loaded
    assert not loaded & HEAVY


# ---------------------------------------------------------------- safety


def calls_of(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def given(call: ast.Call, keyword: str) -> object:
    value = next((item.value for item in call.keywords if item.arg == keyword), None)
    return value.value if isinstance(value, ast.Constant) else None


FORBIDDEN = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def unsafe(file: str) -> Iterator[str]:
    """Yield what unpickles or runs text."""
    # The name of pickle's error is all that is needed of it.
    roots = {name for name in imports_of(file) if name != "pickle.UnpicklingError"}
    yield from {name.partition(".")[0] for name in roots} & FORBIDDEN
    for function, call in calls_of(parse(file)):
        last = function.rpartition(".")[2]
        if (
            function in ("eval", "exec", "os.system")
            or last in ("read_pickle", "to_pickle")
            or given(call, "allow_pickle") is True
            or given(call, "shell") is True
        ):
            yield ast.unparse(call)


def loading_more_than_weights(file: str) -> Iterator[str]:
    """Yield the calls that load a file of torch's with more than weights in it."""
    for function, call in calls_of(parse(file)):
        loads = function in ("torch.load", "torch.hub.load_state_dict_from_url")
        if function == "torch.hub.load" or (loads and given(call, "weights_only") is not True):
            yield ast.unparse(call)


def test_nothing_unpickles_or_runs_text() -> None:
    assert broken(unsafe) == []


def test_torch_loads_weights_only() -> None:
    assert broken(loading_more_than_weights) == []


def test_the_rules_on_loading_have_something_to_watch() -> None:
    calls = [function for file in FILES for function, _ in calls_of(parse(file)) if function == "torch.load"]
    assert calls


def test_nothing_draws_from_the_global_generator_of_python() -> None:
    # Ruff's NPY rules watch numpy's.
    assert broken(lambda file: (name for name in imports_of(file) if name.partition(".")[0] == "random")) == []


def test_ruff_finds_nothing() -> None:
    """Docstrings, pickles, numpy's global generator and the rest that pyproject.toml selects."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- names and words


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "core", "base_utils"}
    parts = {part for file in FILES for part in file.removesuffix(".py").split("/")}
    assert not parts & empty


def own_machine(file: str) -> Iterator[str]:
    """Yield the strings that hold a path of one machine."""
    constants = (node.value for node in ast.walk(parse(file)) if isinstance(node, ast.Constant))
    for text in constants:
        if isinstance(text, str) and any(place in text for place in ("/home/", "/Users/", "/work/", "C:\\")):
            yield text


def test_no_file_knows_the_machine_that_it_was_written_on() -> None:
    assert broken(own_machine) == []


def test_the_map_of_the_code_names_every_module_and_no_other() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for file in FILES:
        path = Path(file)
        if path.name == "__init__.py":
            word = f"{path.parent.name}/"
        elif path.parent.name in PACKAGES or f"`{path.name}`" in text:
            word = f"`{path.name}`"
        else:
            word = f"{path.parent.name}/"
        assert word in text, f"ARCHITECTURE.md does not name {file}"

"""Where the time of a build goes. Run by hand; prints a table by stage and by what is done in it.

    python -m tests.speed.builds [EXPERIMENT.toml] [--observer NAME ...] [--threads 1] [--rounds 1] [--out FOLDER]

Builds the demo's study, or that of an experiment file, in a new folder; lets observers answer; scores; makes the
gallery. Functions that can cost something are measured in the thread that runs them, without what they call of each
other, in seconds of processor, so that whoever else uses the machine does not count. "all else" is what a stage takes
beyond them. The time of a network's own threads would be seen by no thread of ours, so that torch gets one thread
unless told otherwise. The study's hash is printed: what makes a build faster must not change it.

With several rounds, medians are printed. The same measure of another version:

    PYTHONPATH=OTHER_CHECKOUT python tests/speed/builds.py
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import pkgutil
import statistics
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time, thread_time

from rich.console import Console
from rich.table import Table

GROUPS: dict[str, tuple[str, ...]] = {
    "decoding pictures of the pool": ("stimuli.pictures:decode", "stimuli.bundled:BundledPool.original"),
    "cropping and resizing": (
        "stimuli.pictures:center_crop",
        "stimuli.pictures:resize_to",
        "stimuli.pictures:to_pixels",
        "benchmark.observers.embedding:resized",
    ),
    "hashing pixels": ("benchmark.hashing:hash_pixels",),
    "hashes and detectors of the survey": ("stimuli.near_duplicates:perceptual_hash", "stimuli.planted:scores"),
    "near-duplicates": ("stimuli.near_duplicates:near_duplicates", "stimuli.near_duplicates:join_groups"),
    "loading and tracing models": ("benchmark.model_zoo:load_model",),
    "preprocessing batches": ("benchmark.model_zoo:Model.prepare",),
    "networks: activations": ("benchmark.readings:PlaceReader.read_places",),
    "networks: embeddings": ("benchmark.observers.embedding:embed_batch", "benchmark.observers.embedding:embed_layers"),
    "networks: visualisations": ("stimuli.visualization.fast:visualize",),
    "copies of networks up to a layer": ("stimuli.visualization.fast:Prefix.__init__",),
    "thresholds of visualisations": ("stimuli.visualization.thresholds:measure_thresholds",),
    "extremes": ("stimuli.order_statistics:ExtremeTracker.add", "stimuli.order_statistics:ExtremeTracker.result"),
    "keys of ties, reading activations": (
        "stimuli.order_statistics:content_ties",
        "stimuli.activations:Plan.ties",
        "stimuli.activations:read_activations",
    ),
    "order and statistics of units": ("stimuli.order_statistics:full_order", "stimuli.unit_statistics:describe"),
    "choosing exemplars": ("stimuli.exemplars:choose_exemplars",),
    "rows of exemplars": ("stimuli.exemplars:exemplar_rows",),
    "writing pictures": ("stimuli.image_store:store_picture",),
    "reading pictures of the study": ("benchmark.study:Study.image",),
    "colours and spectra": ("benchmark.observers.lowlevel:describe",),
    "hashing tables": ("benchmark.hashing:hash_rows",),
    "reading and writing tables": (
        "benchmark.schemas:Schema.conform",
        "benchmark.schemas:Schema.read",
        "benchmark.schemas:Schema.write",
        "benchmark.schemas:concatenate",
    ),
    "putting tasks together": ("benchmark.tasks:assemble_tasks", "benchmark.tasks:present"),
    "laying out sessions": ("benchmark.trials:wave_cells", "benchmark.trials:lay_out_trials"),
    "manifest, protocol, experiment": (
        "benchmark.storage:write_json",
        "benchmark.study:package_versions",
        "benchmark.experiment:Experiment.resolve_protocol",
        "benchmark.study:Study.protocol",
        "benchmark.study:Study.manifest",
    ),
    "scores": ("analysis.machines.performance:score_machines",),
    "figures": (
        "analysis.figures:plot_machine_scores",
        "analysis.figures:save_figure",
        "stimuli.trial_picture:save_trial_picture",
    ),
    "pages of the gallery": ("stimuli.gallery:build_gallery",),
}
"""Functions by what they do. What a version lacks is left out; what a function calls of another group counts there."""


class Ledger:
    """Seconds of processor by stage and group, each thread's to what runs in it at the moment."""

    def __init__(self) -> None:
        self.stage = ""
        self.spent: dict[tuple[str, str], float] = defaultdict(float)
        self.calls: dict[tuple[str, str], int] = defaultdict(int)
        self.processor: dict[str, float] = defaultdict(float)
        self.wall: dict[str, float] = defaultdict(float)
        self._here = threading.local()
        self._lock = threading.Lock()

    def _charge(self, stack: list[str]) -> None:
        now = thread_time()
        if stack:
            with self._lock:
                self.spent[self.stage, stack[-1]] += now - self._here.mark
        self._here.mark = now

    @contextmanager
    def group(self, name: str, counted: bool = True) -> Iterator[None]:
        """Charge what this thread does inside to a group."""
        if not hasattr(self._here, "stack"):
            self._here.stack, self._here.mark = [], thread_time()
        stack = self._here.stack
        self._charge(stack)
        stack.append(name)
        if counted:
            with self._lock:
                self.calls[self.stage, name] += 1
        try:
            yield
        finally:
            self._charge(stack)
            stack.pop()

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Charge all that happens inside to a stage."""
        before, self.stage = self.stage, stage
        begun, spent = perf_counter(), process_time()
        try:
            yield
        finally:
            self.wall[stage] += perf_counter() - begun
            self.processor[stage] += process_time() - spent
            self.stage = before


def import_everything() -> None:
    """Import all that a build uses: its functions can be found then, and imports are in no stage."""
    for package in ("benchmark", "benchmark.observers", "benchmark.workflow", "stimuli", "stimuli.visualization"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    for name in ("analysis.machines.performance", "analysis.figures"):
        importlib.import_module(name)


def watch(ledger: Ledger) -> list[tuple[object, str, object]]:
    """Wrap every function of :data:`GROUPS`, wherever it is known by name; returns what to put back."""
    undo: list[tuple[object, str, object]] = []
    for group, addresses in GROUPS.items():
        for address in addresses:
            module_name, _, path = address.partition(":")
            owner_name, _, name = path.rpartition(".")
            module = importlib.import_module(module_name)
            owner = getattr(module, owner_name, None) if owner_name else module
            found = inspect.getattr_static(owner, name, None) if owner is not None else None
            if found is None:
                continue
            wrapped = _wrap(ledger, group, found)
            places = [owner]
            if owner is module:
                places = [m for m in list(sys.modules.values()) if getattr(m, "__dict__", {}).get(name) is found]
            for place in places:
                undo.append((place, name, found))
                setattr(place, name, wrapped)
            if isinstance(wrapped, functools.cached_property):
                wrapped.__set_name__(owner, name)
    return undo


def _wrap(ledger: Ledger, group: str, found: object) -> object:
    """Return a function, generator function or property that charges its group."""
    if isinstance(found, property):
        return property(_wrap(ledger, group, found.fget))
    if isinstance(found, functools.cached_property):
        return functools.cached_property(_wrap(ledger, group, found.func))
    if inspect.isgeneratorfunction(found):

        @functools.wraps(found)
        def steps(*args, **named):
            made = found(*args, **named)
            first = True
            while True:
                with ledger.group(group, counted=first):
                    try:
                        value = next(made)
                    except StopIteration:
                        return
                first = False
                yield value

        return steps

    @functools.wraps(found)
    def call(*args, **named):
        with ledger.group(group):
            return found(*args, **named)

    return call


def run(ledger: Ledger, experiment: str, observers: list[str], out: Path) -> str:
    """Do what ``vimi demo`` does, each part a stage of the ledger; returns the hash of the study."""
    from analysis.figures import plot_machine_scores, save_figure
    from benchmark.study import STAGES
    from benchmark.workflow import building
    from stimuli.building import Builder
    from stimuli.trial_picture import save_trial_picture

    original = Builder.run

    def staged(self: Builder, stage: str) -> None:
        with ledger.during(stage):
            original(self, stage)

    Builder.run = staged
    try:
        with ledger.during("all stages"):
            study = building.build(experiment or building.demo_experiment(), out, device="cpu")
    finally:
        Builder.run = original
    for name in ("processor", "wall"):
        values = getattr(ledger, name)
        values["other parts of building"] = values.pop("all stages") - sum(values[stage] for stage in STAGES)
    for observer in observers:
        with ledger.during(f"observe {observer}"):
            building.observe_study(study, observer, device="cpu")
    with ledger.during("scores and figures"):
        parameters = {name: facts["parameters"] for name, facts in study.manifest["models"].items()}
        every = building.score_study(study)
        shown = building.largest_observer(every, parameters)
        save_figure(plot_machine_scores(shown, parameters, ""), study.results / "machine_scores.png")
        save_trial_picture(study, study.results / "trial.png")
    with ledger.during("gallery"):
        building.make_gallery(study, None, every)
    return study.hash


def measure(experiment: str, observers: list[str], out: str) -> tuple[Ledger, str]:
    """Build once, watched."""
    ledger = Ledger()
    undo = watch(ledger)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return ledger, run(ledger, experiment, observers, Path(out or folder) / "study")
    finally:
        for place, name, found in reversed(undo):
            setattr(place, name, found)


def show(ledgers: list[Ledger], threshold: float) -> None:
    """Print medians over rounds: what takes less than the threshold is added up under "all else"."""
    table = Table("stage", "what", "calls", "processor, s", "wall, s", box=None)
    first = ledgers[0]

    def median(values: list[float]) -> float:
        return statistics.median(values)

    totals: dict[str, float] = defaultdict(float)
    for stage in first.processor:
        processor = median([ledger.processor[stage] for ledger in ledgers])
        wall = median([ledger.wall[stage] for ledger in ledgers])
        table.add_row(stage, "", "", f"[bold]{processor:.1f}[/]", f"{wall:.1f}")
        rest = processor
        groups = {group for where, group in first.spent if where == stage}
        spent = {group: median([ledger.spent[stage, group] for ledger in ledgers]) for group in groups}
        for group, seconds in sorted(spent.items(), key=lambda item: -item[1]):
            totals[group] += seconds
            if seconds >= threshold:
                table.add_row("", group, f"{first.calls[stage, group]:,}", f"{seconds:.1f}", "")
                rest -= seconds
        totals["all else"] += processor - sum(spent.values())
        table.add_row("", "all else", "", f"{rest:.1f}", "")
    processor = median([sum(ledger.processor.values()) for ledger in ledgers])
    wall = median([sum(ledger.wall.values()) for ledger in ledgers])
    table.add_row("together", "", "", f"[bold]{processor:.1f}[/]", f"{wall:.1f}")
    for group, seconds in sorted(totals.items(), key=lambda item: -item[1]):
        if seconds >= threshold:
            table.add_row("", group, "", f"{seconds:.1f}", "")
    Console(width=110).print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="?", default="")
    parser.add_argument("--observer", action="append", default=[])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threshold", type=float, default=0.3, help="seconds; what takes less has no line of its own")
    parser.add_argument("--out", default="", help="keep the study of a single round in this folder")
    arguments = parser.parse_args()
    begun, spent = perf_counter(), process_time()
    import_everything()
    imports = process_time() - spent, perf_counter() - begun
    import torch

    torch.set_num_threads(arguments.threads)
    demo = ["lowlevel", "features:efficientnet_lite0", "features:efficientnet_lite2"]
    observers = arguments.observer or (demo[:2] if arguments.experiment else demo)
    ledgers: list[Ledger] = []
    for _ in range(arguments.rounds):
        ledger, study_hash = measure(arguments.experiment, observers, arguments.out if arguments.rounds == 1 else "")
        ledgers.append(ledger)
        version = Path(str(importlib.import_module("benchmark").__file__)).parent
        print(f"study {study_hash}, torch with {arguments.threads} thread(s), from {version}")
    print(f"imports: {imports[0]:.1f} s of processor, {imports[1]:.1f} s")
    show(ledgers, arguments.threshold)


if __name__ == "__main__":
    main()

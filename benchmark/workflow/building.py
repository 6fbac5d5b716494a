"""Building a study, letting machines answer, and the demo: jobs that join the packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from benchmark.errors import DocumentError, NameNotFound
from benchmark.experiment import Experiment, read_experiment
from benchmark.model_card import TWIN_SUFFIX
from benchmark.progress import Reporter, default_reporter
from benchmark.protocol import References
from benchmark.study import STAGES, Study

if TYPE_CHECKING:
    import pandas as pd

    from analysis.machines.performance import MachineScore, MachineScores
    from benchmark.engines.base import Engine
    from stimuli.forecast import BuildForecast


def build(
    experiment: Experiment | Path | str,
    out: Path | str,
    *,
    stage: str | None = None,
    device: str = "auto",
    skip_unreadable: bool = False,
    extend: bool = False,
    anchor: str = "",
    engine: Engine | str = "local",
    address: str = "",
    reporter: Reporter | None = None,
) -> Study:
    """Build a study, or go on building one, or extend one that is built.

    Parameters
    ----------
    experiment
        The experiment, or the path of its file.
    out
        The study's folder.
    stage
        Build up to this stage; all of them if not given.
    device
        Where networks run: ``auto``, ``cpu``, ``cuda``.
    skip_unreadable
        Leave files out that are no readable picture, and count them.
    extend
        Add the experiment's new models, conditions and difficulties to the study that is in the folder. Its trials and
        answers stay as they are; new trials make a wave of their own, see :mod:`benchmark.waves`.
    anchor
        The old model whose units people of the new wave judge again, if not the first.
    engine
        Who measures activations and makes synthetic pictures: ``local`` for this process, ``ray`` for a cluster, or an
        engine that is open already. A build may change engines where it was interrupted.
    address
        Where the cluster is: see :func:`benchmark.engines.create_engine`.
    reporter
        Shows progress.

    Returns
    -------
    The study. With ``extend``, it is as it was until the last stage has run.

    Raises
    ------
    VimiError
        Whatever is wrong, in words; what is finished is kept, and the same call goes on behind it.
    """
    if not isinstance(experiment, Experiment):
        experiment = read_experiment(experiment)
    if stage is not None and stage not in STAGES:
        raise NameNotFound("stage", stage, STAGES)
    if anchor and not extend:
        raise DocumentError("An anchor is only used to extend a study: give --extend together with --anchor.")
    check_sessions(experiment)
    study = Study.open(out) if extend else Study(out)
    from benchmark.engines import opened_engine

    reporter = reporter or default_reporter()
    with study.building(), opened_engine(engine, address, reporter) as opened:
        if extend and _extend(study, experiment, stage, device, skip_unreadable, anchor, opened, reporter):
            return Study.open(out)
        study = Study.create(out, experiment)
        from stimuli.building import Builder

        builder = Builder(study, device, skip_unreadable, reporter, opened)
        for name in STAGES:
            builder.run(name)
            if name == stage:
                break
    return study


def _extend(
    study: Study,
    experiment: Experiment,
    stage: str | None,
    device: str,
    skip_unreadable: bool,
    anchor: str,
    engine: Engine,
    reporter: Reporter,
) -> bool:
    """Extend a study; returns whether the experiment adds anything to it."""
    from benchmark.extension import begin_extension, check_stage, finish_extension, is_ready
    from stimuli.building import Builder

    if is_ready(study):
        finish_extension(study)  # an earlier call was killed while it put the extension in place
        study = Study.open(study.root)
    if experiment.hash == study.manifest["experiment"]:
        return False
    draft = begin_extension(study, experiment, anchor)
    builder = Builder(draft, device, skip_unreadable, reporter, engine)
    for name in STAGES:
        builder.run(name)
        check_stage(study, draft, name)
        if name == stage and name != STAGES[-1]:
            return True
    finish_extension(study)
    return True


def check_sessions(experiment: Experiment) -> None:
    """Check, before anything is built, that a session can show a different unit in each main trial.

    Raises
    ------
    DocumentError
        If there are too few units; the message says what to set.
    """
    from benchmark.trials import check_units

    rules = experiment.resolve_protocol().rules.session
    asked = sum(not entry.card.endswith(TWIN_SUFFIX) for entry in experiment.models)
    if not asked:
        return  # twins are for machines: nobody is asked about them
    models = 1 if rules.models == "nested" else asked
    for condition in experiment.stimuli.conditions:
        per_model = experiment.units_per_model(condition)
        check_units(f"the {condition} condition", models * per_model, rules.main_trials)


def forecast(
    experiment: Experiment | Path | str, *, device: str = "auto", reporter: Reporter | None = None
) -> BuildForecast:
    """Say what building a study would take: time, bytes, answers and money, measured on this machine."""
    from stimuli.forecast import forecast_build

    if not isinstance(experiment, Experiment):
        experiment = read_experiment(experiment)
    check_sessions(experiment)
    return forecast_build(experiment, device, reporter or default_reporter())


def observe_study(
    study: Study | Path | str,
    observer: str,
    *,
    references: Sequence[References] = ("both",),
    shuffle_references: bool = False,
    device: str = "auto",
    engine: Engine | str = "local",
    address: str = "",
    reporter: Reporter | None = None,
) -> pd.DataFrame:
    """Let a machine observer answer a study's tasks and store its answers.

    Parameters
    ----------
    study
        The study, or its folder.
    observer
        Name of the observer: ``lowlevel``, ``features:efficientnet_lite0``.
    references
        Which sides are shown.
    shuffle_references
        Deal the references at random: an honest observer is then at chance.
    device
        Where networks run.
    engine, address
        Who does the work, as in :func:`build`.
    reporter
        Shows progress.

    Returns
    -------
    The observer's answers.
    """
    (responses,) = observe_study_together(
        study, (observer,), references=references, shuffle_references=shuffle_references, device=device, engine=engine,
        address=address, reporter=reporter,
    )  # fmt: skip
    return responses


def observe_study_together(
    study: Study | Path | str,
    observers: Sequence[str],
    *,
    references: Sequence[References] = ("both",),
    shuffle_references: bool = False,
    device: str = "auto",
    engine: Engine | str = "local",
    address: str = "",
    reporter: Reporter | None = None,
) -> list[pd.DataFrame]:
    """Let several machine observers answer a study's tasks and store their answers, side by side if the engine can.

    Parameters are those of :func:`observe_study`; returns the answers of each observer, in their order.
    """
    from benchmark.device import prepare_torch
    from benchmark.engines import opened_engine
    from benchmark.observers import create_observer
    from benchmark.observing import observe_elsewhere
    from benchmark.responses import observe, store_responses

    study = Study.open(study)
    for kind in references:
        if kind not in get_args(References):
            raise NameNotFound("kind of references", kind, get_args(References))
    study.stage_outputs("exemplars")
    reporter = reporter or default_reporter()
    answers: list[pd.DataFrame] = []
    with opened_engine(engine, address, reporter) as opened:
        target = opened.choose_device(device)
        if opened.is_elsewhere:
            with study.timed("observers", ", ".join(observers)):
                answers = observe_elsewhere(
                    study, observers, opened, target, references=references, shuffle_references=shuffle_references,
                    reporter=reporter,
                )  # fmt: skip
            for responses in answers:
                store_responses(study, responses)
            return answers
        prepare_torch(target)
        for name in observers:
            made = create_observer(name, study, target, reporter)
            with study.timed("observers", name):
                responses = observe(study, made, references=references, shuffle_references=shuffle_references)
            store_responses(study, responses)
            answers.append(responses)
    return answers


def score_study(study: Study | Path | str) -> MachineScores:
    """Score the machine observers of a study, and write ``results/machine_scores.csv``; a notebook shows the table."""
    from analysis.machines.performance import score_machines
    from benchmark.responses import machine_responses
    from benchmark.storage import write_text

    study = Study.open(study)
    scores = score_machines(machine_responses(study), study.statistics(), seed=study.experiment.seed)
    table = scores.frame()
    table.insert(0, "note", "; ".join(study.manifest["notes"]))
    write_text(study.results / "machine_scores.csv", table.to_csv(index=False))
    return scores


def make_gallery(
    study: Study | Path | str, reporter: Reporter | None = None, scores: Sequence[MachineScore] | None = None
) -> Path:
    """Write the gallery of a study and return the page to open. Scores are computed unless given."""
    from benchmark.responses import machine_responses
    from stimuli.gallery import build_gallery

    study = Study.open(study)
    if scores is None:
        scores = score_study(study) if len(machine_responses(study)) else []
    summary = [(s.model, s.condition, s.observer, str(s.score), str(s.excess or "–")) for s in scores]
    summary += [(s.model + TWIN_SUFFIX, s.condition, s.observer, str(s.twin), "–") for s in scores if s.twin]
    return build_gallery(study, summary, reporter or default_reporter())


def why_no_regression(sizes: Mapping[str, float | None]) -> str:
    """Say why models of these sizes support no slope, or return nothing if they do; see ``analysis.figures``."""
    from analysis import figures

    return figures.why_no_regression(sizes)


def try_parametrization() -> None:
    """Use lucent's parametrisation once; whatever its packages raise shows that they do not fit together."""
    from stimuli.visualization import parametrization

    parametrization.colour_matrix()


def open_photographs() -> int:
    """Open every bundled photograph and return how many there are.

    Raises
    ------
    VimiError
        If one is missing or broken.
    """
    from stimuli import bundled

    for name in bundled.PHOTOGRAPHS:
        bundled.photograph(name)
    return len(bundled.PHOTOGRAPHS)


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes
    ----------
    study
        The study.
    scores
        One row for each model and condition, by the largest of the other models.
    figure, trial, gallery
        What to look at.
    """

    study: Study
    scores: list[MachineScore]
    figure: Path
    trial: Path
    gallery: Path


def demo_experiment() -> Experiment:
    """Return the experiment of the demo."""
    with resources.as_file(resources.files("benchmark") / "demo.toml") as path:
        return read_experiment(path)


def run_demo(out: Path | str, *, device: str = "auto", reporter: Reporter | None = None) -> Demo:
    """Run the main job on real models and real pictures, end to end.

    Parameters
    ----------
    out
        Folder of the study.
    device
        Where networks run.
    reporter
        Shows progress.
    """
    from analysis.figures import plot_machine_scores, save_figure
    from stimuli.trial_picture import save_trial_picture

    reporter = reporter or default_reporter()
    study = build(demo_experiment(), out, device=device, reporter=reporter)
    for observer in ("lowlevel", "features:efficientnet_lite0", "features:efficientnet_lite2"):
        observe_study(study, observer, device=device, reporter=reporter)
    parameters = {name: facts["parameters"] for name, facts in study.manifest["models"].items()}
    every = score_study(study)
    scores = largest_observer(every, parameters)
    figure = study.results / "machine_scores.png"
    save_figure(plot_machine_scores(scores, parameters, "; ".join(study.manifest["notes"])), figure)
    trial = save_trial_picture(study, study.results / "trial.png")
    return Demo(study, scores, figure, trial, make_gallery(study, reporter, every))


def largest_observer(scores: list[MachineScore], parameters: dict[str, int]) -> list[MachineScore]:
    """Keep, for each model and condition, the score by the feature observer made of the largest other model."""
    best: dict[tuple[str, ...], MachineScore] = {}
    for score in sorted(scores, key=lambda s: parameters.get(s.observer.removeprefix("features:"), 0)):
        if score.observer.startswith("features:"):
            best[score.model, score.condition, score.difficulty, score.references] = score
    return sorted(best.values(), key=lambda s: (s.condition, parameters[s.model]))

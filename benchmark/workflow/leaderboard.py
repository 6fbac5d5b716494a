"""The leaderboard: adding models, making the release, reading the table, writing the site."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from benchmark.data_sets import data_set_names
from benchmark.engines import opened_engine
from benchmark.errors import LeaderboardError, ObserverError, VimiError, spell_error
from benchmark.experiment import Experiment, ModelEntry, absolute_source
from benchmark.model_card import HUB, TWIN_SUFFIX, ModelCard, card_names
from benchmark.model_sources import load_card
from benchmark.observers.base import LOW_LEVEL, Kinship
from benchmark.own_models import name_of_function
from benchmark.pool_sizes import halved_sizes
from benchmark.progress import Reporter, default_reporter
from benchmark.protocol import REFERENCES, References
from benchmark.release import BUNDLED, Release, load_release
from benchmark.study import Study
from benchmark.workflow.building import build, observe_study_together
from benchmark.workflow.pool_sizes import observe_pool_sizes

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from analysis.leaderboard.result import Result
    from analysis.leaderboard.standings import Leaderboard
    from analysis.leaderboard.verification import Verifications
    from benchmark.engines.base import Engine

WORKSPACE = Path("leaderboard")
"""Where models are added if nothing else is said: ``studies/`` below it, and ``results/``."""

STAGES = ("check", "build", "observe", "pool sizes", "result")
"""What adding a model does, one after the other; each goes on where it was interrupted."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Addition:
    """A model that was added.

    Attributes
    ----------
    model
        Its name.
    paths
        Its result files: one, or as many as a study has models.
    study
        The study that they were made from.
    new
        Whether the files say anything that was not there before.
    seconds
        How long each stage took.
    results
        The folder of result files that the paths lie in.
    """

    model: str
    paths: tuple[Path, ...]
    study: Path
    new: bool
    seconds: dict[str, float] = field(default_factory=dict)
    results: Path = WORKSPACE / "results"

    @property
    def board(self) -> Leaderboard:
        """The rows that were added, with the ranks that they have among the workspace's results."""
        known = read_leaderboard([self.results])
        paths = {path.resolve() for path in self.paths}
        return known.only({own.hash for own in known.results if (self.results / own.place).resolve() in paths})

    def frame(self) -> pd.DataFrame:
        """Return the rows that were added, one for each table and observer, at full precision."""
        return self.board.frame()

    def _repr_html_(self) -> str:
        files = "<br>".join(escape(str(path)) for path in self.paths)
        again = "" if self.new else " (nothing new: it was there before)"
        return f"{self.board._repr_html_()}<p>Result: {files}{again}<br>Study: {escape(str(self.study))}</p>"


def add_model(
    model: str | nn.Module,
    *,
    name: str = "",
    untrained: Callable[[], nn.Module] | None = None,
    facts: Mapping[str, Any] | None = None,
    pool: str = BUNDLED,
    data_set: str = "",
    release: str = "",
    conditions: Sequence[str] = (),
    weights: str = "",
    training_data: Sequence[str] = (),
    training_images: int | None = None,
    workspace: Path | str = WORKSPACE,
    pictures: bool = True,
    device: str = "auto",
    engine: Engine | str = "local",
    address: str = "",
    reporter: Reporter | None = None,
) -> Addition:
    """Add a model to the leaderboard: check it, build its stimuli, let machines answer, score, write its result file.

    Interrupted, the same call goes on where it stopped.

    Parameters
    ----------
    model
        A timm model's name, a card's name or TOML file, an own function (``module:function`` or an entry point), or a
        network of this process.
    name, untrained, facts
        Of a network that is given itself: its name, what makes it with random weights, and further facts of its card;
        see ``benchmark.own_models.offer_model``.
    pool
        Source of the pool: ``bundled``, ``imagenet:PATH``, ``imagefolder:PATH``, ``folder:PATH``, ...
    data_set
        The public data set that the pictures are part of, such as ``cifar-10``, where the source does not say it.
    release
        Name or file of the release; if not given, the one for the pool.
    conditions
        Only these kinds of references, of those of the release.
    weights
        A checkpoint of the model's, or ``random`` for a model that is deliberately untrained.
    training_data, training_images
        What the model was trained on, where its card does not say it.
    workspace
        Folder of studies and results.
    pictures
        Whether each unit's first task goes into the result file, small.
    device, engine, address
        Where and how networks run.
    reporter
        Shows progress.

    Raises
    ------
    LeaderboardError
        Naming the stage that failed, and why.
    """
    folder = Path(workspace)
    reporter = reporter or default_reporter()
    if not isinstance(model, str):
        from benchmark.own_models import offer_model

        name = name or type(model).__name__.lower()
        offer_model(model, name, untrained=untrained, **(facts or {}))
        model = name
    progress = _Stages(model, folder, reporter)
    described = load_release(release, pool)
    entry = ModelEntry(
        card=str(Path(model).resolve()) if model.endswith(".toml") else model,
        twin=weights != "random", weights=str(Path(weights).resolve()) if weights not in ("", "random") else weights,
        training_data=tuple(training_data), training_images=training_images,
    )  # fmt: skip
    experiment = described.experiment_for(entry, absolute_source(pool, Path.cwd()), tuple(conditions), data_set)
    elsewhere = engine != "local" if isinstance(engine, str) else engine.is_elsewhere
    card = progress.run("check", lambda: _check(experiment, "cpu" if elsewhere else device, reporter))
    if notice := kinship_notice(card, described):
        reporter.say(notice)
    root = folder / "studies" / _study_name(card, described, experiment)
    with opened_engine(engine, address, reporter) as opened:
        study = progress.run("build", lambda: build(experiment, root, device=device, engine=opened, reporter=reporter))
        observers = progress.run("observe", lambda: _observe(study, described, device, opened, reporter))
        answers = progress.run(
            "pool sizes", lambda: _follow_pool_size(study, described, observers, device, opened, reporter)
        )
    paths, new = progress.run(
        "result", lambda: _write_results(study, folder / "results", answers, (), pictures, False, "", reporter)
    )
    return Addition(card.name, paths, root, new, progress.seconds, folder / "results")


def kinship_notice(card: ModelCard, release: Release) -> str:
    """Say, before hours are spent, that a model can't be ranked by machines: every observer that could is a relative.

    Parameters
    ----------
    card
        The model's card.
    release
        The release, with its observers.

    Returns
    -------
    The notice; nothing if an observer is unrelated.
    """
    networks = [name.partition(":")[2] for name in release.observers if name.startswith("features:")]
    shared: set[str] = set()
    for network in networks:
        kinship = Kinship.of(load_card(network))
        if not kinship.related_to(card):
            return ""
        shared |= kinship.data & set(data_set_names(card.training.data if card.training else ()))
    if not networks:
        return ""
    why = f"trained on {', '.join(sorted(shared))} as it was" if shared else "of its family"
    return (
        f"{card.name} will have a row without a machine rank: this release's observers ({', '.join(networks)}) are "
        f"its relatives, {why}, and may share its mistakes. People's answers rank it: build a study and serve it, then "
        "'vimi leaderboard add --study STUDY'."
    )


def add_study(
    study: Study | Path | str,
    *,
    models: Sequence[str] = (),
    workspace: Path | str = WORKSPACE,
    pictures: bool = True,
    pool_sizes: bool = True,
    device: str = "auto",
    database: str = "",
    reporter: Reporter | None = None,
) -> Addition:
    """Write the result files of a study's models: of machines' answers, and of people's where there are any.

    A machine's rank needs its score over smaller pools. Observers of the study that have not answered over them do so
    now, as in :func:`add_model`; what keeps them from it is said.

    Parameters
    ----------
    study
        A built study with answers.
    models
        Which of its models; all if not given.
    workspace
        The files go to ``results/`` below this folder.
    pictures
        Whether each unit's first task goes into the result file, small.
    pool_sizes
        Whether observers answer over smaller pools where they have not; without it, such rows are not ranked.
    device
        Where networks of observers run.
    database
        URL of the database of people's answers, if it is not the study's own.
    reporter
        Shows progress.
    """
    opened = Study.open(study)
    reporter = reporter or default_reporter()
    if pool_sizes:
        _measure_pool_sizes(opened, device, reporter)
    folder = Path(workspace) / "results"
    paths, new = _write_results(opened, folder, _stored_pool_sizes(opened), models, pictures, True, database, reporter)
    return Addition(", ".join(models) or opened.root.name, paths, opened.root, new, results=folder)


@dataclass(frozen=True)
class ReleaseOutcome:
    """What came of a release: the models that were added, and why others were not."""

    added: tuple[Addition, ...]
    failed: dict[str, str]
    skipped: dict[str, str]


def make_release(
    *,
    pool: str = BUNDLED,
    data_set: str = "",
    release: str = "",
    models: Sequence[str] = (),
    fetch: bool = False,
    conditions: Sequence[str] = (),
    workspace: Path | str = WORKSPACE,
    pictures: bool = True,
    device: str = "auto",
    engine: Engine | str = "local",
    address: str = "",
    reporter: Reporter | None = None,
) -> ReleaseOutcome:
    """Add every model that has a card to the leaderboard, one after the other.

    A model that fails does not stop the others; the same call goes on with what is missing.

    Parameters
    ----------
    models
        Which cards; all if not given.
    fetch
        Whether weights that are not on this machine are fetched; else their models are skipped, and said.
    pool, data_set, release, conditions, workspace, pictures, device, engine, address, reporter
        As for :func:`add_model`.
    """
    from benchmark.model_zoo import weights_on_machine

    added: list[Addition] = []
    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    with opened_engine(engine, address, reporter) as opened:
        for name in models or card_names():
            card = load_card(name)
            if not fetch and not card.is_own and weights_on_machine(card) is None:
                skipped[name] = "its weights are not on this machine (--fetch lets them be fetched)"
                continue
            try:
                added.append(
                    add_model(
                        name, pool=pool, data_set=data_set, release=release, conditions=conditions, workspace=workspace,
                        pictures=pictures, device=device, engine=opened, reporter=reporter,
                    )
                )  # fmt: skip
            except VimiError as error:
                failed[name] = str(error)
    return ReleaseOutcome(tuple(added), failed, skipped)


def read_leaderboard(
    results: Sequence[Path | str] = (),
    *,
    protocol: str = "",
    condition: str = "",
    observer: str = "",
    family: str = "",
    model: str = "",
    reporter: Reporter | None = None,
) -> Leaderboard:
    """Build the leaderboard from result files.

    Parameters
    ----------
    results
        Folders of result files; ``released`` stands for those that come with vimi. If none is given: those, and
        ``leaderboard/results`` where it exists.
    protocol, condition, observer, family, model
        Only what has this property; ranks are those among all. An own model may be named ``MODULE:FUNCTION`` here, too.
    reporter
        Shows progress.

    Raises
    ------
    NameNotFound
        If a filter names something that no result has, or there is no such module or function.
    """
    from analysis.leaderboard.result import read_results
    from analysis.leaderboard.standings import build_leaderboard

    return build_leaderboard(
        read_results(*result_folders(results)), protocol=protocol, condition=condition, observer=observer,
        family=family, model=_name_on_board(model), reporter=reporter,
    )  # fmt: skip


def _name_on_board(model: str) -> str:
    """Return the name that a model has in result files: an own one was added by its address."""
    if model.endswith(TWIN_SUFFIX):
        return _name_on_board(model.removesuffix(TWIN_SUFFIX)) + TWIN_SUFFIX
    if model.startswith("timm:") or model.endswith(".toml") or HUB.match(model):
        return load_card(model).name
    return name_of_function(model) if ":" in model else model


def result_folders(named: Sequence[Path | str] = ()) -> list[Path]:
    """Resolve names of folders of results; see :func:`read_leaderboard`."""
    from analysis.leaderboard.result import released_folder

    if named:
        return [released_folder() if str(name) == "released" else Path(name) for name in named]
    own = WORKSPACE / "results"
    return [released_folder(), *([own] if own.is_dir() else [])]


def build_leaderboard_site(
    out: Path | str, results: Sequence[Path | str] = (), *, reporter: Reporter | None = None
) -> Path:
    """Write the leaderboard as a static site; returns the page to open. Folders are those of ``read_leaderboard``."""
    from analysis.leaderboard.site import build_site

    reporter = reporter or default_reporter()
    return build_site(read_leaderboard(results, reporter=reporter), Path(out), reporter=reporter)


def verify_results(
    files: Sequence[Path | str] = (),
    *,
    against: str = "",
    study: Study | Path | str | None = None,
    database: str = "",
    reporter: Reporter | None = None,
) -> Verifications:
    """Verify result files: recompute every number from their counts, and say where a file differs.

    Parameters
    ----------
    files
        Result files, or folders of them.
    against
        In place of files: the branch or commit that this checkout is to be added to. What it adds must then be exactly
        one result file, and that is verified.
    study
        A study to recompute counts, weights, stimuli and scores from as well.
    database
        URL of the database of people's answers, if it is not the study's own.
    reporter
        Shows progress.

    Raises
    ------
    LeaderboardError
        If there is no such file, or the checkout adds something else than one result file.
    """
    from analysis.leaderboard.contribution import find_contribution
    from analysis.leaderboard.verification import verify_results as verify

    if bool(files) == bool(against):
        raise LeaderboardError("Name result files to verify, or the branch to compare with (--against).")
    opened = None if study is None else Study.open(study)
    return verify(
        [find_contribution(against)] if against else files, study=opened, database=database,
        reporter=reporter or default_reporter(),
        pool_sizes=None if opened is None else _stored_pool_sizes(opened),
    )  # fmt: skip


# -------------------------------------------------------------------- stages


@dataclass
class _Stages:
    """The stages of adding a model: how long each took, and which one failed."""

    model: str
    folder: Path
    reporter: Reporter
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, stage: str, work: Callable[[], Value]) -> Value:
        """Run a stage.

        Raises
        ------
        LeaderboardError
            Naming the stage. What is finished is kept.
        """
        number = STAGES.index(stage) + 1
        self.reporter.say(f"{number} of {len(STAGES)}: {stage}")
        begun = perf_counter()
        where = f"{self.model} could not be added: stage {number} of {len(STAGES)}, {stage}, failed."
        again = " What is finished is kept; the same command goes on here." if number > 1 else ""
        log = self.folder / "failure.log"
        try:
            value = work()
        except VimiError as error:
            failure = LeaderboardError(f"{where} {error}{again}")
            failure.exit_code = error.exit_code
            raise failure from None
        except Exception as error:
            # A network of somebody's own may fail in any way: its author needs the whole story, but not here.
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            raise LeaderboardError(f"{where} {spell_error(error)} (details are in {log}).{again}") from None
        log.unlink(missing_ok=True)
        self.seconds[stage] = round(perf_counter() - begun, 1)
        return value


def _check(experiment: Experiment, device: str, reporter: Reporter) -> ModelCard:
    """Check that pool and model can be read, before anything long begins; returns its card with its parameters."""
    from benchmark.device import choose_device, prepare_torch
    from benchmark.smoke_test import smoke_test
    from stimuli.materials import resolve_card
    from stimuli.pool_sources import open_pool

    pool = open_pool(experiment.pool.source, experiment.pool.data_set, experiment.pool.split)
    experiment.resolve_protocol().for_pool(len(pool)).windows(len(pool), experiment.stimuli.difficulties)
    (entry,) = experiment.models
    card = resolve_card(entry)
    prepare_torch(choose_device(device))
    test = smoke_test(
        card, weights=entry.weights, seed=experiment.seed, device=device, need_training=True, reporter=reporter,
        aggregator=experiment.resolve_protocol().rules.units.aggregator,
        synthetic="synthetic" in experiment.stimuli.conditions,
    )  # fmt: skip
    test.require()
    return test.card


def _study_name(card: ModelCard, release: Release, experiment: Experiment) -> str:
    """Return the name of the folder in which a model's study is built: another pool or release has another."""
    from urllib.parse import quote

    from benchmark.hashing import hash_settings

    identity = hash_settings([experiment.hash, experiment.pool.source])[:8]
    return f"{quote(card.name, safe='+@=~').lstrip('.')}-{release.name}-{identity}"


def _observe(study: Study, release: Release, device: str, engine: Engine, reporter: Reporter) -> tuple[str, ...]:
    """Let the release's observers answer, each once; returns those that could."""
    from benchmark.responses import machine_responses

    stored = machine_responses(study)
    able: list[str] = []
    asked: list[str] = []
    wanted: tuple[References, ...] = tuple(kind for kind in REFERENCES if kind in release.references)
    for observer in release.observers:
        if _is_itself(study, observer) or (observer == "label" and not study.pool()["label"].notna().any()):
            continue
        able.append(observer)
        known = stored[stored["observer"] == observer]
        conditions = set(study.experiment.stimuli.conditions)
        if not (set(wanted) <= set(known["references"]) and conditions <= set(known["condition"])):
            asked.append(observer)
    observe_study_together(study, asked, references=wanted, device=device, engine=engine, reporter=reporter)
    if LOW_LEVEL not in able:
        raise ObserverError(
            f"The release {release.name} lacks the observer {LOW_LEVEL}, which every headline score is compared with."
        )
    return tuple(able)


def _is_itself(study: Study, observer: str) -> bool:
    """Whether a feature observer is made of a model of the study: it would be left with the twin alone."""
    from benchmark.observers.features import load_observer
    from benchmark.observing import FEATURES
    from benchmark.responses import models_with_weights

    kind, _, named = observer.partition(":")
    if kind != FEATURES:
        return False
    weights = load_observer(named.partition("@")[0]).weights_hash
    return not models_with_weights(study, weights).isdisjoint(study.asked_models)


def _follow_pool_size(
    study: Study, release: Release, observers: Sequence[str], device: str, engine: Engine, reporter: Reporter
) -> Any:
    """Let observers answer on parts of the pool, as the release asks; returns their answers, or None."""
    if release.smallest_pool_share >= 1 or "natural" not in study.experiment.stimuli.conditions:
        return None
    least = release.smallest_pool_share * len(study.pool())
    sizes = [size for size in halved_sizes(study) if size >= least]
    if len(sizes) < 2:
        return None
    return observe_pool_sizes(study, list(observers), sizes[1:], device=device, engine=engine, reporter=reporter)


def _measure_pool_sizes(study: Study, device: str, reporter: Reporter) -> None:
    """Let a study's observers answer over smaller pools, down to the release's share, as far as they have not.

    An observer that can't be made here, or a pool that can't be halved, keeps nothing from being added: it is said.
    """
    from benchmark.observers.base import SHUFFLED
    from benchmark.responses import machine_responses

    if "natural" not in study.experiment.stimuli.conditions:
        return
    answered = machine_responses(study)
    natural = answered[(answered["condition"] == "natural") & (answered["references"] == "both")]
    observers = [name for name in sorted(natural["observer"].unique()) if not name.endswith(SHUFFLED)]
    whole = int(study.manifest["pool"]["size"])
    least = load_release("", study.experiment.pool.source).smallest_pool_share * whole
    sizes = [size for size in halved_sizes(study)[1:] if size >= least]
    if not observers or not sizes:
        if observers:
            reporter.say("The pool can't be halved under this protocol: scores over smaller pools can't be measured.")
        return
    stored = _stored_pool_sizes(study)
    done = set() if stored is None else set(stored.loc[stored["pool_size"] < whole, "observer"])
    for observer in (name for name in observers if name not in done):
        try:
            observe_pool_sizes(study, [observer], sizes, device=device, reporter=reporter)
        except VimiError as error:
            reporter.say(f"{observer} can't answer over smaller pools, so its rows are not ranked: {error}")


def _stored_pool_sizes(study: Study) -> Any:
    """Return answers on parts of the pool that a study has already, or None."""
    from benchmark.workflow.pool_sizes import stored_pool_sizes

    answers = stored_pool_sizes(study)
    return answers if len(answers) else None


def _write_results(
    study: Study,
    folder: Path,
    pool_sizes: Any,
    models: Sequence[str],
    pictures: bool,
    people: bool,
    database: str,
    reporter: Reporter,
) -> tuple[tuple[Path, ...], bool]:
    """Write the results of a study; returns their paths, and whether any says something new."""
    from analysis.leaderboard.making import make_results
    from analysis.leaderboard.result import write_result

    made = make_results(
        study, models=models, pool_sizes=pool_sizes, people=people, pictures=pictures, database=database,
        reporter=reporter,
    )  # fmt: skip
    paths, new = [], False
    for result in made:
        before = _present_beside(result, folder)
        same = [path for path, other in before if result.says_the_same(other)]
        if same:
            paths.append(same[0])
            continue
        replaced = tuple(other.hash for _, other in before if result.covers(other))
        paths.append(write_result(result.model_copy(update={"replaces": replaced}), folder))
        new = True
    return tuple(paths), new


def _present_beside(result: Result, folder: Path) -> list[tuple[Path, Result]]:
    """Return the present results in a folder that are of the same model, protocol, pool and stimuli."""
    from analysis.leaderboard.result import present_results, read_result

    beside = (folder / result.place).parent
    known = {path: read_result(path) for path in sorted(beside.glob("*.json"))} if beside.is_dir() else {}
    present = {other.hash for other in present_results(known.values())}
    return [
        (path, other)
        for path, other in known.items()
        if other.hash in present
        and (other.stimuli_hash, other.pool.identity) == (result.stimuli_hash, result.pool.identity)
    ]

"""Models, conditions and difficulties are added to a study; its stimuli, trials, slots and answers stay as they are."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmark import extension, schemas
from benchmark.command_line import app
from benchmark.errors import DocumentError, HostingError, NameNotFound, StageMissing, StudyError, StudyMismatch
from benchmark.experiment import Experiment, compare_experiments
from benchmark.hashing import hash_rows
from benchmark.observers.reference_points import OracleObserver, RandomObserver
from benchmark.protocol import load_protocol
from benchmark.responses import current_responses, machine_responses, observe, read_responses, store_responses
from benchmark.study import STAGES, Study
from benchmark.tasks import assemble_tasks
from benchmark.trials import lay_out_trials, make_cells, study_cells, wave_cells
from benchmark.units import PLANTED, UNIT_COLUMNS, Unit
from benchmark.waves import Wave, first_wave, next_wave, plan_waves, read_waves
from benchmark.workflow import build, make_gallery, observe_study, score_study
from stimuli.building import Builder
from stimuli.exemplars import choose_exemplars
from tests.conftest import trained_model, write_pictures
from tests.experiments import FEW, small_experiment, write_experiment
from tests.hand_made import make_protocol, make_tasks
from tests.hosted import MODELS, host, hosted_experiment, make_hosted_study, walk_to_practice
from webapp.answering import Answer, current_trial, record_answer
from webapp.hosting import Hosting
from webapp.layout import SessionSlots

OLD, NEW = MODELS
BOTH = [{"card": OLD}, {"card": NEW}]
TWO_CONDITIONS = {"conditions": ["natural", "synthetic"], "references": 3, "tasks": 3}


# -------------------------------------------------------------------- studies made by hand


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Study]:
    """Make a study by hand, each kind once; tests copy it."""
    known: dict[str, Study] = {}
    folder = tmp_path_factory.mktemp("made")

    def make(models: int = 1, synthetic: bool = False, protocol: str = "vimi1") -> Study:
        name = f"{protocol}-{models}-{synthetic}"
        if name not in known:
            changes: dict[str, Any] = {"models": BOTH[:models], "protocol": protocol}
            if synthetic:
                changes["stimuli"] = TWO_CONDITIONS
            known[name] = make_hosted_study(folder / name, **changes)
        return known[name]

    return make


def copy_of(study: Study, folder: Path) -> Study:
    return Study.open(shutil.copytree(study.root, folder))


def build_draft(draft: extension.ExtensionDraft, wide: Study) -> None:
    """Do by hand what the stages of a build do: ``wide`` is the extended study, made in one go."""
    shutil.copytree(wide.root / "images", draft.root / "images", dirs_exist_ok=True)
    draft.update_manifest(models=wide.manifest["models"])
    draft.finish_stage("units", "wide", {})
    draft.finish_stage("activations", "wide", {})
    schemas.STIMULI.write(wide.stimuli(), draft.stimuli_path)
    for stage in ("exemplars", "visualizations"):
        draft.finish_stage(stage, "wide", wide.manifest["stages"][stage]["outputs"])  # type: ignore[arg-type]
    tasks = assemble_tasks(draft.stimuli())
    waves = plan_waves(draft, tasks)
    cells = [cell for wave in waves for cell in wave_cells(tasks, wave, draft.protocol, draft.experiment.seed)]
    trials = lay_out_trials(cells)
    schemas.TRIALS.write(trials, draft.trials_path)
    draft.update_manifest(waves=[wave.facts() for wave in waves])
    draft.finish_stage("trials", "wide", {"trials": hash_rows(trials)})


def extend(study: Study, wide: Study, anchor: str = "") -> Study:
    """Extend a study to what another one is."""
    draft = extension.begin_extension(study, wide.experiment, anchor)
    build_draft(draft, wide)
    for stage in STAGES:
        extension.check_stage(study, draft, stage)
    assert extension.finish_extension(study)
    return Study.open(study.root)


def answer_session(hosting: Hosting) -> str:
    """Let a simulated person take part and answer everything rightly; returns the slot."""
    person = walk_to_practice(hosting)
    while (trial := current_trial(hosting, person.token)) is not None:
        brightness = [hosting.study.image(name).mean() for name in (trial.upper, trial.lower)]
        # Some wrong ones, so that both positions are chosen often enough whatever the draw.
        position = "upper" if brightness[0] > brightness[1] else "lower"
        hosting.clock.pass_by(10)  # type: ignore[attr-defined]
        answer = Answer(participant=person.token, trial=trial.trial, position=position, rt_ms=4000)
        assert record_answer(hosting, answer).state == "stored"
    with hosting.database.reading() as connection:
        row = connection.exec_driver_sql(
            f"select slot from sessions where participant = {person.id} order by id desc limit 1"  # noqa: S608
        ).one()
    return str(row[0])


def units_of(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(rows[UNIT_COLUMNS].itertuples(index=False, name=None))


def main_of(trials: pd.DataFrame, cell: str) -> pd.DataFrame:
    own = trials["session"].str.rpartition("-")[0] == cell
    return trials[own & (trials["kind"] == "main")]


def assert_balanced(main: pd.DataFrame) -> None:
    """No unit twice in a session, and each equally often up to the rounding of the last session."""
    assert not main.duplicated(["session", *UNIT_COLUMNS]).any()
    counts = Counter(units_of(main)).values()
    assert max(counts) - min(counts) <= 1


def assert_same_rows(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    pd.testing.assert_frame_equal(
        schemas.TRIALS.conform(pd.DataFrame(left)), schemas.TRIALS.conform(pd.DataFrame(right))
    )


def assert_cells_are_the_trials(study: Study) -> None:
    """What the cells give for the planned slots is what the table of trials holds, in its order."""
    trials = study.trials()
    cells = study_cells(study)
    assert len({cell.name for cell in cells}) == len(cells)
    pd.testing.assert_frame_equal(lay_out_trials(cells), trials)
    planned = {name.rpartition("-")[0] for name in trials["session"]}
    assert planned == {cell.name for cell in cells}


# -------------------------------------------------------------------- a model is added to a study with answers


def test_a_model_is_added_and_old_answers_trials_and_slots_stay_as_they_are(
    made: Callable[..., Study], tmp_path: Path
) -> None:
    study = copy_of(made(), tmp_path / "study")
    hosting = host(study)
    slots = [answer_session(hosting) for _ in range(2)]
    assert all(slot.startswith("natural-easy-000") for slot in slots)
    store_responses(study, observe(study, OracleObserver()))
    trials, answers, hashes = study.trials(), read_responses(study), study.stimuli_hashes
    refill = hosting.layout.trials(hosting.layout.next_slot("natural-easy", ()))
    practice = hosting.layout.practice("natural-easy", 7)
    identity = (study.root / "hosting.json").read_bytes()

    extended = extend(study, made(models=2))

    after = extended.trials()
    pd.testing.assert_frame_equal(after.head(len(trials)), trials)
    pd.testing.assert_frame_equal(read_responses(extended), answers)
    pd.testing.assert_frame_equal(current_responses(extended, answers), answers)
    assert (study.root / "hosting.json").read_bytes() == identity
    assert hashes < extended.stimuli_hashes and extended.stimuli_hash not in hashes
    assert not (study.root / "extension").exists()

    wave = read_waves(extended.manifest)[-1]
    assert wave.anchor == OLD
    assert [(cell.name, cell.models, cell.anchors) for cell in wave.cells] == [
        ("natural-easy-wave2", (OLD, NEW), (OLD,))
    ]
    new = after.iloc[len(trials) :]
    assert set(new["session"].str.rpartition("-")[0]) == {"natural-easy-wave2"}
    main = main_of(after, "natural-easy-wave2")
    assert set(main["model"].value_counts()) == {18}  # 6 units of each model, 3 judgements a unit
    assert set(main.groupby("session")["model"].nunique()) == {2}
    assert_balanced(main)
    assert_cells_are_the_trials(extended)

    layout = SessionSlots(extended)
    assert_same_rows(layout.trials("natural-easy-0003"), refill)
    assert_same_rows(layout.practice("natural-easy", 7), practice)

    again = host(extended)
    later = [answer_session(again) for _ in range(4)]
    # The new cell lacks more of its slots, and the old one still one of three.
    assert Counter(slot.rpartition("-")[0] for slot in later) == {"natural-easy-wave2": 4}
    joined = read_responses(extended)
    people = joined[joined["observer_kind"] == "simulated"]
    assert people["observer"].nunique() == 6
    assert set(people["stimuli_hash"]) == set(extended.stimuli_hashes)
    assert set(people.loc[people["kind"] == "main", "model"]) == {OLD, NEW}
    assert len(current_responses(extended, joined)) == len(joined)


def test_an_older_server_beside_a_new_one_goes_on_with_old_cells_and_refuses_new_ones_in_words(
    made: Callable[..., Study], tmp_path: Path
) -> None:
    study = copy_of(made(), tmp_path / "study")
    old = host(study)
    old_answers = answer_session(old)
    extended = extend(study, made(models=2))
    new = host(extended)
    person = walk_to_practice(new)
    assert person.cell == "natural-easy-wave2"
    with pytest.raises(HostingError, match="extended after the server started"):
        current_trial(old, person.token)
    slots = [answer_session(old), answer_session(new), answer_session(old), answer_session(new)]
    assert [slot.rpartition("-")[0] for slot in slots] == ["natural-easy", "natural-easy-wave2"] * 2
    assert len({old_answers, *slots}) == 5
    answers = read_responses(extended)
    assert len(current_responses(extended, answers)) == len(answers)
    # Whatever server stored it, an answer is to the trial that the study has under that name.
    trials = {row["trial"]: row for row in extended.trials().to_dict("records")}
    for row in answers[answers["kind"] == "main"].to_dict("records"):
        trial = trials[row["trial"]]
        assert [row[name] for name in (*UNIT_COLUMNS, "task", "query_top")] == [
            trial[name] for name in (*UNIT_COLUMNS, "task", "query_top")
        ]


def test_a_condition_is_added_and_an_old_cell_is_repeated_as_its_anchor(
    made: Callable[..., Study], tmp_path: Path
) -> None:
    study = copy_of(made(models=2), tmp_path / "study")
    before = study.trials()
    extended = extend(study, made(models=2, synthetic=True))
    cells = {cell.name: cell for cell in read_waves(extended.manifest)[-1].cells}
    assert cells["synthetic-easy-wave2"].models == (OLD, NEW)
    assert cells["synthetic-easy-wave2"].anchors == ()
    assert cells["natural-easy-wave2"].models == cells["natural-easy-wave2"].anchors == (OLD,)
    after = extended.trials()
    pd.testing.assert_frame_equal(after.head(len(before)), before)
    for name in cells:
        assert_balanced(main_of(after, name))
        assert set(Counter(units_of(main_of(after, name))).values()) == {3}
    assert_cells_are_the_trials(extended)
    assert set(SessionSlots(extended).cells) == {"natural-easy", *cells}


def test_nested_sessions_get_a_cell_for_the_new_model_and_one_that_repeats_the_anchor(
    made: Callable[..., Study], tmp_path: Path
) -> None:
    study = copy_of(made(protocol="imi2023"), tmp_path / "study")
    before = study.trials()
    extended = extend(study, made(models=2, protocol="imi2023"))
    names = [cell.name for cell in read_waves(extended.manifest)[-1].cells]
    assert names == [f"{OLD}-natural-easy-wave2", f"{NEW}-natural-easy-wave2"]
    after = extended.trials()
    pd.testing.assert_frame_equal(after.head(len(before)), before)
    for name, model in zip(names, (OLD, NEW)):
        assert set(main_of(after, name)["model"]) == {model}
        assert_balanced(main_of(after, name))
    assert_cells_are_the_trials(extended)
    hosting = host(extended)
    assert answer_session(hosting).rpartition("-")[0] in hosting.layout.cells


def test_a_study_is_extended_twice(made: Callable[..., Study], tmp_path: Path) -> None:
    study = copy_of(made(), tmp_path / "study")
    store_responses(study, observe(study, OracleObserver()))
    second = extend(study, made(models=2), OLD)
    middle = second.trials()
    third = extend(second, made(models=2, synthetic=True), NEW)
    waves = read_waves(third.manifest)
    assert [wave.number for wave in waves] == [1, 2, 3]
    assert [wave.anchor for wave in waves] == ["", OLD, NEW]
    assert [cell.name for cell in waves[2].cells] == ["natural-easy-wave3", "synthetic-easy-wave3"]
    assert waves[2].cells[0].models == (NEW,)
    pd.testing.assert_frame_equal(third.trials().head(len(middle)), middle)
    assert_cells_are_the_trials(third)
    assert len(third.stimuli_hashes) == 3
    assert len(machine_responses(third)) == len(read_responses(third)) > 0


def test_stimuli_that_were_made_anew_since_end_the_lineage(made: Callable[..., Study], tmp_path: Path) -> None:
    extended = extend(copy_of(made(), tmp_path / "study"), made(models=2))
    assert len(extended.stimuli_hashes) == 2
    extended.finish_stage("exemplars", "others", {"stimuli": "others"})
    assert extended.stimuli_hashes == {extended.stimuli_hash}


# -------------------------------------------------------------------- machines, and what is made of their answers


def test_machines_answer_the_new_tasks_and_what_they_answered_to_other_sides_is_kept(
    made: Callable[..., Study], tmp_path: Path
) -> None:
    study = copy_of(made(), tmp_path / "study")
    store_responses(study, observe(study, RandomObserver(), references=("both", "none")))
    extended = extend(study, made(models=2))
    store_responses(extended, observe(extended, RandomObserver()))
    table = machine_responses(extended)
    tasks = len(assemble_tasks(extended.stimuli()))
    assert Counter(table["references"])["both"] == tasks
    assert set(table.loc[table["references"] == "none", "model"]) == {OLD, PLANTED}
    assert not table.duplicated(["observer", "references", "trial"]).any()
    assert table["response_id"].is_unique


def test_machine_scores_leave_people_and_simulated_people_out_and_need_no_database(
    made: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copy_of(made(), tmp_path / "study")
    hosting = host(study)
    answer_session(hosting)
    hosting.database.close()
    assert len(read_responses(study)) > 0
    monkeypatch.setattr(Study, "statistics", lambda self: pd.DataFrame(columns=schemas.UNIT_STATISTICS.names))
    assert score_study(study) == []
    observe_study(study, "oracle", device="cpu")
    monkeypatch.setenv("VIMI_DATABASE", "postgresql://nobody@127.0.0.1:1/nothing")
    (score,) = score_study(study)
    assert (score.model, score.observer, score.score.value) == (OLD, "oracle", 1.0)


# -------------------------------------------------------------------- what is refused


def changed(**changes: Any) -> Experiment:
    return hosted_experiment(**{"models": BOTH, **changes})


@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        (changed(seed=6), "seed was 5, is 6"),
        (changed(protocol="imi2023"), "protocol was 'vimi1', is 'imi2023'"),
        (changed(units={"per_model": 7}), "units.per_model was 6, is 7"),
        (changed(pool={"source": "imagenette"}), "pool.source was 'bundled', is 'imagenette'"),
        (changed(stimuli={**TWO_CONDITIONS, "tasks": 4}), "stimuli.tasks was 3, is 4"),
        (changed(stimuli={**TWO_CONDITIONS, "conditions": ["synthetic"]}), "stimuli.conditions lacks 'natural'"),
        (changed(stimuli={**TWO_CONDITIONS, "difficulties": ["hard"]}), "stimuli.difficulties lacks 'easy'"),
        (changed(models=[{"card": NEW}]), f"models lacks '{OLD}'"),
        (changed(session={"main_trials": 5}), "session.main_trials was 6, is 5"),
        (
            changed(models=[{"card": OLD, "training_data": ["x"], "training_images": 5}, {"card": NEW}]),
            f"models '{OLD}'.training_images was None, is 5",
        ),
    ],
)
def test_whatever_is_not_an_addition_is_refused_by_name_and_nothing_is_touched(
    made: Callable[..., Study], experiment: Experiment, words: str
) -> None:
    study = made()
    before = contents(study.root)
    with pytest.raises(StudyMismatch) as caught:
        extension.begin_extension(study, experiment)
    assert words in str(caught.value) and "another folder" in str(caught.value)
    assert contents(study.root) == before


def test_how_people_are_received_and_settings_that_nothing_was_made_by_may_change(made: Callable[..., Study]) -> None:
    old = made().experiment
    new = changed(
        texts={"language": "de"}, hosting={"quiz": True}, visualization={"steps": 8},
        stimuli={**TWO_CONDITIONS, "difficulties": ["easy", "hard"]},
    )  # fmt: skip
    comparison = compare_experiments(old, new)
    assert comparison.changed == ()
    assert comparison.added == (f"the model '{NEW}'", "the condition 'synthetic'", "the difficulty 'hard'")
    assert any(
        "visualization.steps" in words
        for words in compare_experiments(new, changed(stimuli={**TWO_CONDITIONS})).changed
    )


def test_only_harder_difficulties_can_be_added_since_queries_are_dealt_from_the_easiest_on() -> None:
    old = changed(stimuli={**TWO_CONDITIONS, "difficulties": ["medium"]})
    new = changed(stimuli={**TWO_CONDITIONS, "difficulties": ["easy", "medium", "hard"]})
    (words,) = compare_experiments(old, new).changed
    assert "'easy', which is easier than 'medium'" in words
    protocol = load_protocol("vimi1").override({"tasks": {"per_unit": 3, "references_per_side": 3}})
    order = np.random.default_rng(1).permutation(4000)
    groups = np.arange(4000) // 2
    unit = Unit("m", "l", 1)
    few, many = (
        choose_exemplars(order, protocol.windows(4000, wanted), protocol, seed=1, unit=unit, groups=groups)
        for wanted in (("easy", "medium"), ("easy", "medium", "very_hard"))
    )
    for side in ("max", "min"):
        assert (few.references[side] == many.references[side]).all()
        for difficulty in ("easy", "medium"):
            assert (few.queries[difficulty, side] == many.queries[difficulty, side]).all()


def test_the_anchor_is_a_model_that_people_were_asked_about(made: Callable[..., Study]) -> None:
    with pytest.raises(NameNotFound, match=f"Did you mean '{OLD}'"):
        extension.begin_extension(made(), changed(), "efficientnet_lite")


def test_old_stimuli_that_come_out_otherwise_are_refused_and_the_study_is_as_it_was(
    made: Callable[..., Study], tmp_path: Path
) -> None:
    study = copy_of(made(), tmp_path / "study")
    draft = extension.begin_extension(study, made(models=2).experiment)
    before = contents(study.root, but="extension")
    build_draft(draft, made(models=2))
    stimuli = draft.stimuli()
    row = stimuli.index[(stimuli["model"] == OLD) & (stimuli["role"] == "query")][0]
    stimuli.loc[row, "rank"] += 1
    schemas.STIMULI.write(stimuli, draft.stimuli_path)
    with pytest.raises(StudyMismatch, match=f"the stimuli of {OLD} came out otherwise"):
        extension.check_stage(study, draft, "exemplars")
    assert not draft.tables.exists()
    assert contents(study.root, but="images") == {k: v for k, v in before.items() if not k.startswith("images")}


def test_old_trials_that_come_out_otherwise_are_refused(made: Callable[..., Study], tmp_path: Path) -> None:
    study = copy_of(made(), tmp_path / "study")
    draft = extension.begin_extension(study, made(models=2).experiment)
    build_draft(draft, made(models=2))
    trials = draft.trials()
    trials.loc[3, "query_top"] = "max" if trials.loc[3, "query_top"] == "min" else "min"
    schemas.TRIALS.write(trials, draft.trials_path)
    with pytest.raises(StudyMismatch, match="lays out old sessions otherwise"):
        extension.check_stage(study, draft, "trials")


def test_trials_that_are_not_the_study_s_are_noticed_before_anything_is_built(
    made: Callable[..., Study], tmp_path: Path
) -> None:
    study = copy_of(made(), tmp_path / "study")
    schemas.TRIALS.write(study.trials().iloc[1:], study.trials_path)
    with pytest.raises(StudyError, match="Restore it from a backup"):
        extension.begin_extension(study, changed())


def test_a_study_without_trials_and_a_folder_without_a_study_can_not_be_extended(
    made: Callable[..., Study], tmp_path: Path
) -> None:
    study = Study.create(tmp_path / "study", hosted_experiment(models=BOTH[:1]))
    with pytest.raises(StageMissing, match="has no trials yet"):
        build(changed(), study.root, extend=True)
    with pytest.raises(StudyError, match="is not a study"):
        build(changed(), tmp_path / "nothing", extend=True)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(DocumentError, match="--extend together with --anchor"):
        build(changed(), tmp_path / "nothing", anchor=OLD)


def test_an_unreadable_wave_is_named() -> None:
    with pytest.raises(StudyError, match="waves can't be understood"):
        read_waves({"waves": [{"number": 1}]})


# -------------------------------------------------------------------- waves, whatever is added


def test_synthetic_alone_is_not_asked_about_with_natural_references(made: Callable[..., Study], tmp_path: Path) -> None:
    study = copy_of(made(synthetic=True), tmp_path / "study")
    study._freeze(hosted_experiment(models=BOTH[:1], stimuli={**TWO_CONDITIONS, "conditions": ["synthetic"]}))
    assert [cell.name for cell in study_cells(Study.open(study.root))] == ["synthetic-easy"]


def test_more_old_models_join_where_a_session_would_lack_units() -> None:
    protocol = make_protocol(main_trials=10, responses_per_unit=3)
    old = {"a": 4, "b": 4, "c": 4}
    earlier = [first_wave(make_tasks(old), protocol, old)]
    tasks = make_tasks({**old, "d": 5}, conditions=("natural", "synthetic"))
    wave = next_wave(tasks, protocol, [*old, "d"], earlier, "b")
    assert wave is not None
    cells = {cell.name: (cell.models, cell.anchors) for cell in wave.cells}
    assert cells["natural-easy-wave2"] == (("a", "b", "d"), ("a", "b"))
    assert cells["synthetic-easy-wave2"] == (("a", "b", "c", "d"), ())
    assert all(len(cell.units) >= 10 for cell in wave_cells(tasks, wave, protocol, 1))
    alone = next_wave(make_tasks(old, conditions=("natural", "synthetic")), protocol, list(old), earlier)
    assert alone is not None and alone.cells[0].anchors == ("a", "b", "c")


def test_what_asks_people_nothing_new_adds_no_wave() -> None:
    protocol = make_protocol(main_trials=4, responses_per_unit=3)
    tasks = make_tasks({"a": 5, "a-twin": 5})
    assert next_wave(tasks, protocol, ["a"], [first_wave(tasks, protocol, ["a"])]) is None


@given(
    sizes=st.lists(st.integers(2, 6), min_size=2, max_size=4),
    nested=st.booleans(),
    steps=st.lists(st.sampled_from(["model", "synthetic", "hard"]), min_size=1, max_size=3),
    main_trials=st.integers(1, 4),
    responses=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_added_in_whatever_order_cells_of_earlier_waves_give_the_same_sessions(
    sizes: list[int], nested: bool, steps: list[str], main_trials: int, responses: int, seed: int
) -> None:
    protocol = make_protocol(
        "imi2023" if nested else "vimi1", main_trials=min(main_trials, *sizes), responses_per_unit=responses,
        catch_trials=1,
    )  # fmt: skip
    models = {f"m{n}": size for n, size in enumerate(sizes)}
    present, conditions, difficulties = 1, ["natural"], ["easy"]

    def tasks_now() -> pd.DataFrame:
        asked = dict(list(models.items())[:present])
        return make_tasks(asked, 2, conditions, difficulties)

    tasks = tasks_now()
    waves: list[Wave] = [first_wave(tasks, protocol, list(models)[:present])]
    trials = lay_out_trials(wave_cells(tasks, waves[0], protocol, seed))
    for step in steps:
        if step == "model":
            present = min(present + 1, len(models))
        elif step == "synthetic" and step not in conditions:
            conditions.append(step)
        elif step == "hard" and step not in difficulties:
            difficulties.append(step)
        tasks = tasks_now()
        wave = next_wave(tasks, protocol, list(models)[:present], waves)
        if wave is not None:
            waves.append(wave)
        waves = read_waves({"waves": [wave.facts() for wave in waves]})  # as the manifest keeps them
        cells = [cell for known in waves for cell in wave_cells(tasks, known, protocol, seed)]
        after = lay_out_trials(cells)
        pd.testing.assert_frame_equal(after.head(len(trials)), trials)
        assert len({cell.name for cell in cells}) == len(cells)
        if wave is not None:
            assert any(cell.anchors for cell in wave.cells)
            for plan in wave.cells:
                main = main_of(after, plan.name)
                assert set(main["model"]) <= set(plan.models)
                assert_balanced(main)
        trials = after
    covered = set().union(*(wave.groups for wave in waves))
    assert covered == {(c, d, m) for c in conditions for d in difficulties for m in list(models)[:present]}


def test_the_cells_of_a_study_s_first_wave_are_those_that_it_always_had() -> None:
    protocol = make_protocol(main_trials=4, responses_per_unit=2)
    tasks = make_tasks({"a": 5, "b": 4}, conditions=("natural", "synthetic"))
    (first, second) = make_cells(tasks, protocol, 3, {"a", "b"})
    assert [first.name, second.name] == ["natural-easy", "synthetic-easy"]
    assert len(first.units) == 9


# -------------------------------------------------------------------- built by networks


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("few"), FEW)


@pytest.fixture(scope="module")
def narrow(pictures: Path, checkpoint: Path) -> Experiment:
    return small_experiment(pictures, checkpoint)


@pytest.fixture(scope="module")
def broad(pictures: Path, checkpoint: Path) -> Experiment:
    """The narrow experiment with another model, and the synthetic condition."""
    return small_experiment(
        pictures, checkpoint,
        models=[trained_model(checkpoint), {"card": "timm:test_vit", "weights": "random"}],
        stimuli={"conditions": ["natural", "synthetic"], "references": 2, "tasks": 2},
        visualization={"canvas": 32, "steps": 4, "units": 4},
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(narrow: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return build(narrow, tmp_path_factory.mktemp("base") / "study", device="cpu")


@pytest.fixture(scope="module")
def extended(base: Study, broad: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The narrow study, extended in one go."""
    folder = tmp_path_factory.mktemp("extended") / "study"
    shutil.copytree(base.root, folder)
    return build(broad, folder, device="cpu", extend=True)


def contents(root: Path, but: str = "") -> dict[str, bytes]:
    """Return every file of a folder but those that are no part of a study's contents."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and path.name not in (".lock", "timings.parquet")
        and (not but or path.relative_to(root).parts[0] != but)
    }


def tables(study: Study) -> dict[str, bytes]:
    """Return what tells a study's readers what there is."""
    return {name: data for name, data in contents(study.root).items() if "/" not in name}


def test_an_extension_has_the_old_rows_and_pictures_and_those_of_a_study_built_in_one_go(
    base: Study, extended: Study, broad: Experiment, tmp_path: Path
) -> None:
    trials = base.trials()
    pd.testing.assert_frame_equal(extended.trials().head(len(trials)), trials)
    assert extended.experiment.hash == extended.manifest["experiment"] == broad.hash
    images = {name for name in contents(base.root) if name.startswith("images")}
    assert images < set(contents(extended.root))
    at_once = build(broad, tmp_path / "study", device="cpu")
    pd.testing.assert_frame_equal(extended.stimuli(), at_once.stimuli())
    assert extended.stimuli_hash == at_once.stimuli_hash
    assert extended.stimuli_hashes == {base.stimuli_hash, extended.stimuli_hash}
    names = [cell.name for cell in read_waves(extended.manifest)[1].cells]
    assert names == ["natural-easy-wave2", "synthetic-easy-wave2"]
    assert_cells_are_the_trials(extended)
    assert not (extended.root / "extension").exists()


def test_building_or_extending_again_changes_nothing(extended: Study, broad: Experiment) -> None:
    before = contents(extended.root)
    assert build(broad, extended.root, device="cpu").hash == extended.hash
    assert build(broad, extended.root, device="cpu", extend=True).hash == extended.hash
    assert contents(extended.root) == before


def test_trials_of_an_extended_study_that_are_laid_out_anew_keep_their_waves(
    extended: Study, broad: Experiment, tmp_path: Path
) -> None:
    study = copy_of(extended, tmp_path / "study")
    trials = study.trials()
    stages = study.manifest["stages"]
    del stages["trials"]
    study.update_manifest(stages=stages)
    pd.testing.assert_frame_equal(build(broad, study.root, device="cpu").trials(), trials)


def test_without_extend_the_message_says_what_is_new_and_which_option_adds_it(base: Study, broad: Experiment) -> None:
    before = contents(base.root)
    with pytest.raises(StudyMismatch) as caught:
        build(broad, base.root, device="cpu")
    for word in ("timm:test_vit", "condition 'synthetic'", "--extend", "another folder"):
        assert word in str(caught.value)
    assert contents(base.root) == before


def kill(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_extension_that_is_killed_in_any_stage_leaves_the_study_alone_and_goes_on(
    base: Study, extended: Study, broad: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copy_of(base, tmp_path / "study")
    build(base.experiment, study.root, device="cpu")
    before = tables(study)
    for stage in STAGES:
        with monkeypatch.context() as patched:
            patched.setattr(Builder, stage, kill)
            with pytest.raises(KeyboardInterrupt):
                build(broad, study.root, device="cpu", extend=True)
        assert tables(study) == before
        assert study.hash == base.hash
    copy = extension._copy
    with monkeypatch.context() as patched:
        patched.setattr(
            extension, "_copy", lambda source, target: (kill if target == study.trials_path else copy)(source, target)
        )
        with pytest.raises(KeyboardInterrupt):
            build(broad, study.root, device="cpu", extend=True)
    assert study.hash == base.hash
    assert_cells_are_the_trials(Study.open(study.root))
    with pytest.raises(StudyMismatch, match="--extend"):
        build(broad, study.root, device="cpu")
    after = build(broad, study.root, device="cpu", extend=True)
    assert after.hash == extended.hash
    assert after.stimuli_hashes == extended.stimuli_hashes
    pd.testing.assert_frame_equal(after.trials(), extended.trials())


@pytest.mark.parametrize("moment", range(6))
def test_an_extension_that_is_killed_while_it_takes_its_place_can_be_read_and_is_finished(
    made: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    study = copy_of(made(), tmp_path / "study")
    wide = made(models=2, synthetic=True)
    before, refill = study.trials(), SessionSlots(study).trials("natural-easy-0003")
    draft = extension.begin_extension(study, wide.experiment)
    build_draft(draft, wide)
    written = 0
    real = extension.write_atomically
    put = Study.write_manifest

    def count() -> None:
        nonlocal written
        if written == moment:
            raise KeyboardInterrupt
        written += 1

    def write(*arguments: Any) -> None:
        count()
        real(*arguments)

    def write_manifest(self: Study, values: dict[str, Any]) -> None:
        count()
        put(self, values)

    with monkeypatch.context() as patched:
        patched.setattr(extension, "write_atomically", write)
        patched.setattr(Study, "write_manifest", write_manifest)
        if moment < 5:
            with pytest.raises(KeyboardInterrupt):
                extension.finish_extension(study)
        else:  # everything was written: the kill came while the draft was being removed
            patched.setattr(extension.ExtensionDraft, "discard", kill)
            with pytest.raises(KeyboardInterrupt):
                extension.finish_extension(study)
    half = Study.open(study.root)
    layout = SessionSlots(half)
    assert_same_rows(layout.trials("natural-easy-0000"), SessionSlots(made()).trials("natural-easy-0000"))
    assert_same_rows(layout.trials("natural-easy-0003"), refill)
    if half.manifest["experiment"] == made().manifest["experiment"]:
        assert list(layout.cells) == ["natural-easy"]
    # The next call finishes it; a stale draft of an extension that is in place already is removed.
    extension.finish_extension(half)
    after = Study.open(study.root)
    assert after.manifest["experiment"] == wide.experiment.hash == after.experiment.hash
    pd.testing.assert_frame_equal(after.trials().head(len(before)), before)
    assert_cells_are_the_trials(after)
    assert "extension" not in after.manifest
    assert not extension.is_ready(after)
    assert not (study.root / "extension").exists()


def test_another_extension_than_the_one_that_was_begun_begins_anew(made: Callable[..., Study], tmp_path: Path) -> None:
    study = copy_of(made(), tmp_path / "study")
    first = extension.begin_extension(study, changed())
    first.update_manifest(mark="begun")
    assert extension.begin_extension(study, changed()).manifest["mark"] == "begun"
    assert "mark" not in extension.begin_extension(study, changed(), OLD).manifest
    assert not extension.is_ready(study)


def test_the_command_line_extends_a_study_and_says_what_its_waves_are(
    base: Study, broad: Experiment, tmp_path: Path
) -> None:
    study = copy_of(base, tmp_path / "study")
    file = write_experiment(tmp_path / "experiment.toml", broad)
    name = base.units()["model"].iloc[0]

    def run(*options: str) -> str:
        words = ["build", str(file), "--out", str(study.root), "--device", "cpu", *options]
        result = CliRunner().invoke(app, words)
        assert result.exception is None, result.output
        return result.output

    assert "The extension is not finished" in run("--extend", "--stage", "units")
    assert study.hash == base.hash
    said = run("--extend", "--anchor", name)
    assert "Wave 1: natural-easy\n" in said
    assert f"Wave 2: natural-easy-wave2, synthetic-easy-wave2; judged again: {name}" in said
    assert "once they are restarted" in said
    assert "makes only what the study lacks" in run("--extend", "--dry-run")


def test_the_gallery_of_an_extended_study_shows_what_machines_answered_before_it_and_nobody_else(
    base: Study, broad: Experiment, tmp_path: Path
) -> None:
    study = copy_of(base, tmp_path / "study")
    store_responses(study, observe(study, OracleObserver()))
    for kind, name in (("human", "PERSON1"), ("simulated", "PERSON2")):
        answers = observe(study, OracleObserver()).assign(observer_kind=kind, observer=name)
        store_responses(study, answers.assign(response_id=name + answers["response_id"]))
    study = build(broad, study.root, device="cpu", extend=True)
    page = make_gallery(study)
    pages = {path.name: path.read_text(encoding="utf-8") for path in page.parent.glob("*.html")}
    name, _, vit = study.manifest["models"]
    assert "oracle" in pages[f"{name}.html"]
    assert "oracle" not in pages[f"{vit}.html"]
    assert not any("PERSON" in text for text in pages.values())


def test_a_twin_is_added_for_machines_and_people_are_asked_nothing_new(
    pictures: Path, checkpoint: Path, tmp_path: Path
) -> None:
    entry = {**trained_model(checkpoint), "twin": False}
    study = build(small_experiment(pictures, checkpoint, models=[entry]), tmp_path / "study", device="cpu")
    trials = study.trials()
    after = build(small_experiment(pictures, checkpoint), study.root, device="cpu", extend=True)
    assert [facts["twin"] for facts in after.manifest["models"].values()] == [False, True]
    pd.testing.assert_frame_equal(after.trials(), trials)
    assert len(read_waves(after.manifest)) == 1
    assert len(after.stimuli_hashes) == 2

"""Starter folders work as they are, guide to what comes next, and never reach participants unfinished."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from benchmark.commands import observe_command
from benchmark.documents import BLANK
from benchmark.errors import DocumentError, HostingError
from benchmark.experiment import read_experiment
from benchmark.guide import MOST_COMMANDS, look_around, next_steps
from benchmark.study import Study
from benchmark.workflow.starting import OWN_TEXTS, Story, start
from tests.conftest import write_pictures
from tests.experiments import FEW
from tests.hosted import host
from tests.test_architecture import ROOT
from tests.test_command_line import refused, vimi
from webapp.hosting import check_texts
from webapp.wording import Wording

STORIES: tuple[Story, ...] = get_args(Story)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test stands in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def proposed() -> list[str]:
    """Return the commands that ``vimi`` alone names here."""
    return [step.command for step in next_steps(look_around())]


@pytest.mark.parametrize("story", STORIES)
def test_a_starter_has_what_its_commands_name_and_a_readme_with_them(story: Story) -> None:
    outcome = vimi("new", "mine", "--story", story)
    assert outcome.code == 0, outcome.err
    started = Path("mine")
    readme = (started / "README.md").read_text(encoding="utf-8")
    commands = [line.strip() for line in outcome.out.splitlines() if line.startswith("  vimi ")]
    assert len(commands) == 2
    for command in commands:
        assert command in readme
        words = command.split()
        files = [word for word in words if word.endswith((".toml", ".csv"))]
        assert all((started / file).is_file() for file in files)
    assert vimi("new", "other", "--story", story, "--json").out.startswith("{")


def test_nothing_is_overwritten_and_a_story_must_exist(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("years of work")
    refused(vimi("new", "mine"), "mine is not empty", "vimi overwrites nothing")
    refused(vimi("new", "mine/thesis.txt"), "is a file")
    refused(vimi("new", "other", "--story", "hots"), "Did you mean 'host'?")
    assert [path.name for path in here.rglob("*")] == ["mine", "thesis.txt"]


@pytest.mark.parametrize("story", ["build", "host"])
def test_the_experiment_of_a_starter_builds_on_a_tiny_pool(
    story: Story, here: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = start("mine", story).folder / "experiment.toml"
    described = read_experiment(file)
    assert described.models[0].twin and described.pool.source == "bundled"
    pictures = write_pictures(here / "pictures", FEW)
    text = file.read_text(encoding="utf-8")
    for old, new in (
        ('source = "bundled" ', f'source = "folder:{pictures}"\ncrop = 32\n'),
        (
            'card = "efficientnet_lite0"\n',
            f'card = "timm:test_resnet"\nweights = "{checkpoint}"\ntraining_data = ["stripes"]\ntraining_images = 60\n',
        ),
        ("per_model = 84", "per_model = 6"),
        ("# references = 9", "references = 2"),
        ("# tasks = 10", "tasks = 2"),
        ("# main_trials = 40", "responses_per_unit = 4\nmain_trials = 4"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    file.write_text(text, encoding="utf-8")
    built = vimi("build", file, "--out", here / "mine" / "study", *(["--stage", "units"] if story == "build" else []))
    assert built.code == 0, built.err
    study = Study.open(here / "mine" / "study")
    monkeypatch.chdir(here / "mine")
    if story == "build":
        assert proposed() == ["vimi build study/experiment.toml --out study"]
        return
    assert proposed()[0].startswith("vimi observe study")
    assert sorted(path.name for path in (study.root / "texts" / "en").iterdir()) == sorted(OWN_TEXTS)
    blanks = "texts/en/consent.md, line 3"
    with pytest.raises(HostingError, match=blanks):
        check_texts(host(study, bots=False))
    refused(vimi("serve", study.root, "--pilot"), "consent.md, line 3", "--preview")
    check_texts(host(study, bots=False, preview=True))
    consent = here / "mine" / "texts" / "en" / "consent.md"
    consent.write_text(consent.read_text(encoding="utf-8").replace(BLANK, "The laboratory"), encoding="utf-8")
    study.take_texts_over()
    check_texts(host(study, bots=False))
    (study.root / "texts" / "en" / "labels.toml").write_text(f'[labels]\ncontinue = "{BLANK}"\n', encoding="utf-8")
    with pytest.raises(HostingError, match=r"labels\.toml, line 2"):
        check_texts(host(study, bots=False))


def test_a_blank_in_a_field_counts_as_not_filled(here: Path) -> None:
    file = start("mine", "host").folder / "experiment.toml"
    assert len(read_experiment(file).recruitment.unfilled) == 5
    text = file.read_text(encoding="utf-8").replace('controller = ""', f'controller = "{BLANK}: who?"')
    file.write_text(text.replace('contact = ""', 'contact = "lab@example.org"'), encoding="utf-8")
    recruitment = read_experiment(file).recruitment
    assert recruitment.unfilled == ["ethics_approval", "controller", "retention", "pool_licence"]
    assert recruitment.stated("controller") == "" and recruitment.stated("contact") == "lab@example.org"


@pytest.mark.parametrize(("language", "heading"), [("en", "Who we are"), ("de", "Wer wir sind")])
def test_the_texts_of_a_starter_are_texts_that_vimi_reads(language: str, heading: str, here: Path) -> None:
    outcome = vimi("new", "mine", "--story", "host", "--language", language)
    assert outcome.code == 0 and f"Fill in texts/{language}/consent.md" in outcome.out
    wording = Wording(language, here / "mine" / "texts")
    assert heading in wording.page("consent")
    assert [place.rpartition(", ")[2] for place in wording.blanks()] == ["line 3", "line 5"]
    assert read_experiment(here / "mine" / "experiment.toml").texts.language == language
    assert f"`texts/{language}/consent.md`" in (here / "mine" / "README.md").read_text(encoding="utf-8")


def test_a_language_of_a_starter_must_have_texts() -> None:
    refused(vimi("new", "mine", "--story", "host", "--language", "fr"), "Known: de, en")
    refused(vimi("new", "mine", "--language", "de"), "has no texts for participants")


def test_the_example_of_the_mapping_is_imported_and_described(here: Path) -> None:
    folder = start("mine", "analyse").folder
    done = vimi(
        "import-csv", folder / "answers.csv", "--mapping", folder / "mapping.toml", "--out", "imported", "--json"
    )
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["answers"], told["sessions"]) == (204, 6)
    counts = {(row["kind"], row["condition"]): row["answers"] for row in told["counts"]}
    assert counts == {
        ("main", "natural"): 96, ("main", "synthetic"): 96, ("practice", "natural"): 6, ("catch", "natural"): 6,
    }  # fmt: skip
    assert proposed()[0] == "vimi analyze imported"


def test_the_model_of_a_starter_is_checked_and_without_weights_it_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = start("mine", "leaderboard").folder
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    checked = vimi("models", "check", "my_model:make", "--weights", "random", "--json")
    assert checked.code == 0, checked.err
    assert json.loads(checked.out)["passed"]
    refused(vimi("models", "check", "my_model:make"), "Does it load its weights?")
    sys.modules.pop("my_model", None)


# -------------------------------------------------------------------- what to do next


def test_alone_it_says_what_to_do_in_an_empty_folder_and_in_a_starter(here: Path) -> None:
    empty = vimi()
    assert empty.code == 0 and "vimi demo" in empty.out and "vimi new my_study" in empty.out
    start(here / "mine", "build")
    for name in ("experiment.toml", "README.md"):
        (here / "mine" / name).rename(here / name)
    assert "Here: experiment.toml, an experiment" in vimi().out
    assert proposed() == [
        "vimi build experiment.toml --out study --dry-run", "vimi build experiment.toml --out study",
    ]  # fmt: skip


def test_a_model_is_not_proposed_to_observe_itself() -> None:
    assert observe_command("s", ["resnet50"]).endswith("--observer features:efficientnet_lite0")
    assert observe_command("s", ["efficientnet_lite0"]).endswith("--observer features:efficientnet_lite2")
    every = observe_command("s", [f"efficientnet_lite{number}" for number in range(3)])
    assert "efficientnet_lite0" in every and "efficientnet_lite2" in every


def test_alone_it_may_be_cut_by_who_reads_it() -> None:
    """`vimi | head -0`: the reader closes the pipe, and there is no traceback."""
    command = [sys.executable, "-m", "benchmark.command_line"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def write_study(place: Path, *, stages: int = 5) -> Path:
    """Write what is looked at of a study."""
    names = ("units", "activations", "exemplars", "visualizations", "trials")
    place.mkdir(parents=True)
    (place / "manifest.json").write_text(json.dumps({"stages": {name: {} for name in names[:stages]}}))
    (place / "experiment.toml").write_text('[[models]]\ncard = "resnet50"\n')
    return place


def test_alone_it_follows_a_study_from_its_build_to_peoples_answers(here: Path) -> None:
    study = write_study(here / "a study", stages=2)
    (here / "experiment.toml").write_text('[[models]]\ncard = "resnet50"\n')
    assert proposed() == ["vimi build 'a study/experiment.toml' --out 'a study'"]
    (study / "manifest.json").unlink()
    study = write_study(here / "whole")
    assert proposed()[0].startswith("vimi observe whole --observer lowlevel")
    assert "vimi serve whole --preview" in proposed()
    (study / "responses").mkdir()
    (study / "responses" / "lowlevel.parquet").touch()
    assert proposed()[0] == "vimi analyze whole" and "vimi leaderboard add --study whole" in proposed()
    with sqlite3.connect(study / "study.sqlite") as connection:
        connection.execute("CREATE TABLE answers (id INTEGER)")
        assert "vimi leaderboard add --study whole" in proposed(), "nobody has answered yet"
        connection.executemany("INSERT INTO answers VALUES (?)", [(1,), (2,)])
    connection.close()
    assert "2 answers by people" in vimi().out
    assert proposed() == ["vimi analyze whole", "vimi power whole --until 0.05", "vimi export whole"]


def test_alone_it_knows_tables_models_and_results(here: Path) -> None:
    (here / "export").mkdir()
    (here / "export" / "responses.csv").write_text("a\n")
    assert proposed()[0] == "vimi analyze export/responses.csv"
    (here / "export" / "responses.csv").unlink()
    (here / "card.toml").write_text('title = "Tiny"\n[input]\nsize = 64\n')
    assert proposed() == ["vimi models check card.toml", "vimi leaderboard add card.toml"]
    place = here / "leaderboard" / "results" / "tiny" / "weights" / "vimi1"
    place.mkdir(parents=True)
    (place / "one.json").write_text("{}")
    assert "vimi leaderboard verify leaderboard/results" in proposed()


def test_what_can_not_be_read_is_passed_over(here: Path) -> None:
    (here / "broken.toml").write_text("= 3")
    (here / "latin.toml").write_bytes(b'a = "\xe9"')
    (here / "list.py").write_bytes(b"\xff\xfe")
    (here / "study").mkdir()
    (here / "study" / "manifest.json").write_text("[1]")
    assert look_around() == [] and len(proposed()) == MOST_COMMANDS
    write_study(here / "other")
    (here / "other" / "study.sqlite").write_text("no database")
    assert proposed()[0].startswith("vimi observe other")
    with pytest.raises(DocumentError):
        start(here)

"""Verifying result files: whatever is changed in one is found, and it is said where."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from analysis.intervals import means
from analysis.leaderboard import consistency
from analysis.leaderboard.consistency import compare_scores, is_relative
from analysis.leaderboard.contribution import FOLDER, find_contribution
from analysis.leaderboard.making import make_published_results, make_results
from analysis.leaderboard.result import Result, read_result, write_result
from analysis.leaderboard.scores import score_result
from analysis.leaderboard.verification import Verification, verify_result, verify_results
from benchmark.command_line import app
from benchmark.errors import LeaderboardError
from benchmark.hashing import hash_settings
from benchmark.model_card import TrainingSpec
from benchmark.plumbing import PLUMBING
from benchmark.simulation_settings import SimulationSettings
from benchmark.study import Study
from benchmark.workflow import observe_study, simulate
from tests.leaderboards import made_up_result

ROOT = Path(__file__).resolve().parent.parent
SEER = "features:seer"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Bootstraps of few resamples: how good intervals are is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(means, "RESAMPLES", 300)
        yield


@pytest.fixture(scope="module")
def answered(tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The tiny study, with answers by machines and by simulated people."""
    folder = tmp_path_factory.mktemp("answered") / "study"
    shutil.copytree(tiny_study.root, folder)
    study = Study.open(folder)
    for observer in ("lowlevel", "label"):
        observe_study(study, observer)
    simulate(study, SimulationSettings(participants=6, seed=1, dropout=0.0))
    return study


@pytest.fixture(scope="module")
def database(answered: Study) -> str:
    return f"sqlite:///{answered.root / 'simulation.sqlite'}"


@pytest.fixture(scope="module")
def genuine(answered: Study, database: str) -> Result:
    """The result of a study's trained model, people's answers included."""
    name = next(name for name, facts in answered.manifest["models"].items() if facts["card"]["training"])
    return make_results(answered, models=[name], database=database)[0]


@pytest.fixture(scope="module")
def whole(genuine: Result) -> Result:
    """The same without people, and with an observer that has an excess."""
    seer = [
        counts.model_copy(
            update={
                "observer": SEER,
                "right": tuple(min(n, right + (n - right + 1) // 2) for right, n in zip(counts.right, counts.answered)),
            }
        )
        for counts in genuine.machines
        if counts.observer == "lowlevel"
    ]
    return sealed(genuine.model_copy(update={"machines": (*genuine.machines, *seer), "people": ()}))


def sealed(result: Result) -> Result:
    """Return a result as somebody would write it who knows how scores and hash are made."""
    return result.model_copy(update={"scores": score_result(result)}).sealed()


@pytest.fixture
def unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longest, where a test is about something else."""
    monkeypatch.setattr(consistency, "score_result", lambda result, reporter=None, interval="student": result.scores)


def write(values: dict[str, Any], path: Path, *, seal: bool = False) -> Path:
    """Write the content of a file, as it is or with the hash that fits."""
    if seal:
        values["hash"] = hash_settings({key: value for key, value in values.items() if key != "hash"})
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def contents(result: Result) -> dict[str, Any]:
    return json.loads(json.dumps({**result.content, "hash": result.hash}))


def failures(verification: Verification) -> dict[str, str]:
    """Return what does not hold, each with all that is said of it."""
    return {own.name: " ".join([own.sentence, *own.differences]) for own in verification.failures}


def tampered(result: Result, change: Change, tmp_path: Path, *, seal: bool = True) -> dict[str, str]:
    """Return what verification finds in a file after a change."""
    values = contents(result)
    change(values)
    return failures(verify_result(write(values, tmp_path / "result.json", seal=seal), known=[]))


# -------------------------------------------------------------------- what is whole


def test_what_vimi_writes_holds(genuine: Result, whole: Result, tmp_path: Path) -> None:
    for result in (genuine, whole):
        verification = verify_result(write_result(result, tmp_path / "results"))
        assert failures(verification) == {}
        assert {"hash", "place", "protocol", "counts", "scores", "notes", "model"} <= {
            own.name for own in verification.inspections
        }
        assert "--study" in verification.left_open


@pytest.mark.usefixtures("unscored")
def test_a_file_may_lie_anywhere_but_below_results(whole: Result, tmp_path: Path) -> None:
    path = write(contents(whole), tmp_path / "mine.json")
    assert verify_result(path).holds
    assert set(failures(verify_result(path, place=True))) == {"place"}
    (tmp_path / "results").mkdir()
    lost = path.rename(tmp_path / "results" / "mine.json")
    assert str(whole.place) in failures(verify_result(lost))["place"]


# -------------------------------------------------------------------- one tampered file after the other


def seek(values: dict[str, Any], quantity: str, observer: str = SEER) -> dict[str, Any]:
    return next(score for score in values["scores"] if (score["quantity"], score["observer"]) == (quantity, observer))


def test_a_tampered_score_is_found_and_said(whole: Result, tmp_path: Path) -> None:
    def raise_excess(values: dict[str, Any]) -> None:
        score = seek(values, "excess")
        score.update(value=score["value"] + 0.1, high=score["high"] + 0.1)

    true = next(score for score in whole.scores if score.quantity == "excess")
    found = tampered(whole, raise_excess, tmp_path)
    assert set(found) == {"scores"}
    assert f"excess, natural, easy, by {SEER}" in found["scores"]
    assert f"its counts give {true.estimate}" in found["scores"]
    assert set(tampered(whole, raise_excess, tmp_path, seal=False)) == {"hash", "scores"}


@pytest.mark.parametrize(("share", "holds"), [(0.0, True), (0.02, True), (0.3, False)])
def test_an_interval_may_differ_by_a_stated_share_of_its_width(whole: Result, share: float, holds: bool) -> None:
    true = next(score for score in whole.scores if score.quantity == "score")
    width = true.high - true.low
    assert true.value - true.low > 0.3 * width
    narrower = true.model_copy(update={"low": true.low + share * width})
    assert (not list(compare_scores([narrower], [true], "counts give"))) == holds
    shifted = true.model_copy(update={"value": true.value - 1e-6})
    assert "value: the file says" in next(compare_scores([shifted], [true], "counts give"))


def test_a_missing_and_an_invented_score_are_found(whole: Result, tmp_path: Path) -> None:
    def exchange(values: dict[str, Any]) -> None:
        values["scores"].append({**seek(values, "excess"), "observer": "features:oracle"})
        values["scores"].remove(seek(values, "twin"))

    found = tampered(whole, exchange, tmp_path)["scores"]
    assert "no such score" in found and "the file lacks it" in found


def _renamed(values: dict[str, Any]) -> None:
    values["model"]["name"] = "resnet50"


def _set(*places: Any, to: Any) -> Change:
    def change(values: dict[str, Any]) -> None:
        inner: Any = values
        for place in places[:-1]:
            inner = inner[place]
        inner[places[-1]] = to

    return change


def _more_than_all(values: dict[str, Any]) -> None:
    values["machines"][0]["right"][0] = values["machines"][0]["answered"][0] = 10**6


def _left_out(values: dict[str, Any]) -> None:
    values["machines"][0]["right"][0] = values["machines"][0]["answered"][0] = 0


def _mixed(values: dict[str, Any]) -> None:
    values["machines"][0]["protocol"] = "imi2023"


def _unmarked(values: dict[str, Any]) -> None:
    values["notes"] = []
    values["stimuli"][0]["repeated_groups"] = 0.02


def _bundled(values: dict[str, Any]) -> None:
    values["notes"] = []
    values["pool"]["source"] = "bundled"


def _relative(values: dict[str, Any]) -> None:
    values["machines"][0].update(observer="features:efficientnet_lite0", related=False)
    values["model"]["family"] = "efficientnet"


def _twice(values: dict[str, Any]) -> None:
    values["units"][1] = values["units"][0]


def _another_seed(values: dict[str, Any]) -> None:
    values["made"]["seed"] += 1


TAMPERED: dict[str, tuple[Change, str, str]] = {
    "another protocol than its rules": (_set("protocol", "identity", to="vimi1"), "protocol", "its rules give vimi1+"),
    "rules of another protocol": (_set("protocol", "name", to="imi2023"), "protocol", "imi2023"),
    "an unknown protocol": (_set("protocol", "name", to="vimi9"), "protocol", "no protocol 'vimi9'"),
    "a rule that there is not": (_set("protocol", "rules", "luck", to=1), "protocol", "luck"),
    "another pool size": (_set("pool", "size", to=10**6), "protocol", "1,000,000"),
    "two protocols": (_mixed, "counts", "answered under imi2023, not under vimi1+"),
    "a renamed model": (_renamed, "model", "architecture: the file says"),
    "weights without a hash": (_set("model", "weights", to="abc"), "model", "'abc'"),
    "trained at random": (_set("model", "kind", to="untrained"), "model", "says that it is untrained"),
    "a negative size": (_set("model", "parameters", to=-1), "model", "parameters is -1"),
    "more answers than tasks": (_more_than_all, "counts", "was asked about 1,000,000 times"),
    "a unit that one observer was not asked about": (_left_out, "counts", "answers per unit differs from that of"),
    "more answers than memory": (_set("machines", 0, "answered", 0, to=10**15), "counts", "more than a file may have"),
    "a number without end": (_set("machines", 0, "answered", 0, to=10**40), "text", "larger than any number"),
    "probabilities above 1": (_set("machines", 0, "probability", 0, to=99.0), "counts", "can't add up to 99"),
    "a share above 1": (_set("units", 0, "tie_share", to=7.0), "units", "are impossible"),
    "not a number": (_set("units", 0, "tie_share", to="nan"), "text", "units[0].tie_share is nan"),
    "no note": (_unmarked, "notes", f"2.0% of pictures repeat a group of their task, but the note '{PLUMBING}'"),
    "the bundled pool without its note": (_bundled, "notes", "the bundled one"),
    "a hidden relative": (_relative, "counts", "a relative of the model"),
    "a name in other letters": (_set("model", "name", to="r\u0435snet50"), "model", "can't be called"),
    "a formula": (_set("model", "family", to='=HYPERLINK("http://x")'), "text", "a spreadsheet would compute"),
    "a pool without a hash": (_set("pool", "identity", to="imagenet"), "notes", "identity is not a hash"),
    "an invented flag": (_set("units", 0, "flag", to="hard"), "units", "an unknown flag: hard"),
    "a unit twice": (_twice, "units", "appears 2 times"),
    "another seed": (_another_seed, "experiment", "seed"),
    "another experiment": (_set("made", "experiment", "stimuli", "tasks", to=1), "experiment", "other rules than"),
    "an experiment of nothing": (_set("made", "experiment", to={"protocol": "vimi1"}), "experiment", "models"),
    "undescribed stimuli": (_set("stimuli", to=[]), "stimuli", "its stimuli are not described"),
    "no picture": (_set("pictures", 0, "webp", to="AAAA"), "pictures", "can't be read"),
    "a picture of another size": (_set("pictures", 0, "side", to=1), "pictures", "pixels instead of"),
    "what can't be seen": (_set("model", "title", to="good\u202emodel"), "text", "model.title"),
    "escape sequences": (_set("model", "title", to="\x1b[2Jgone"), "text", "model.title"),
    "a source for what was measured": (_set("source", to="a paper"), "published", "this one is trained"),
    "a model that takes its own place": (_set("replaces", to=["0"]), "others", "which is not the hash of another file"),
}


@pytest.mark.usefixtures("unscored")
@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_file_with_the_right_hash_is_found(whole: Result, tmp_path: Path, name: str) -> None:
    change, where, what = TAMPERED[name]
    found = tampered(whole, change, tmp_path)
    assert where in found, found
    assert what in found[where]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a readable result file"),
        ("[]", "not an object"),
        ("[" * 100_000, "not a readable result file"),
        ('{"format": 9}', "reads 1"),
        ('{"format": 9, "made": 3}', "not a result file"),
        ('{"format": 1, "model": {}}', "required"),
        ("\x80", "not a r"),
    ],
)
def test_what_is_no_result_file_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(text.encode("latin-1"))
    verification = verify_result(path)
    assert set(failures(verification)) == {"file"} and verification.result is None
    assert said in failures(verification)["file"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("fame", to=1), "fame"),
        (_set("machines", 0, "right", 0, to=10**9), "more right answers than answers"),
        (_set("scores", 0, "value", to="nan"), "within its interval"),
        (_set("scores", 0, "value", to=9.0), "within its interval"),
        (_set("machines", 0, "right", to=[1]), "one number"),
    ],
)
def test_what_breaks_the_layout_is_said(whole: Result, tmp_path: Path, change: Change, said: str) -> None:
    assert said in tampered(whole, change, tmp_path)["file"]


@pytest.mark.usefixtures("unscored")
def test_a_key_that_stands_twice_is_found(whole: Result, tmp_path: Path) -> None:
    path = write(contents(whole), tmp_path / "result.json")
    path.write_text(path.read_text().replace('"licence"', '"licence": "free", "licence"', 1))
    assert failures(verify_result(path, known=[])) == {
        "text": "The file contains things that vimi never writes. the key 'licence' appears twice in one place"
    }


@pytest.mark.usefixtures("unscored")
def test_people_can_not_answer_more_than_a_session(genuine: Result, tmp_path: Path) -> None:
    def flood(values: dict[str, Any]) -> None:
        values["people"][0]["answered"][0] = 1000

    def double(values: dict[str, Any]) -> None:
        values["people"][0]["people"][0] = values["people"][0]["people"][1]

    assert "has answered 1,0" in tampered(genuine, flood, tmp_path)["counts"]
    assert "two people have the same code" in tampered(genuine, double, tmp_path)["counts"]


# -------------------------------------------------------------------- what only the study tells


def cheat(result: Result) -> Result:
    """Make a model better by its counts, with scores and hash that fit."""
    first = next(counts for counts in result.machines if counts.subject == "model" and counts.observer == "lowlevel")
    better = first.model_copy(update={"right": first.answered})
    return sealed(result.model_copy(update={"machines": tuple(better if c is first else c for c in result.machines)}))


def test_the_study_confirms_its_file(genuine: Result, answered: Study, database: str, tmp_path: Path) -> None:
    path = write_result(genuine, tmp_path)
    verification = verify_result(path, study=answered, database=database)
    assert failures(verification) == {}
    assert any(own.name == "counts of the study" for own in verification.inspections)
    assert "--study" not in verification.left_open


def test_only_the_study_tells_of_tampered_counts(genuine: Result, answered: Study, tmp_path: Path) -> None:
    path = write_result(cheat(genuine.model_copy(update={"people": ()})), tmp_path)
    without = verify_result(path)
    assert without.holds and "someone who changes counts" in without.left_open
    found = failures(verify_result(path, study=answered))
    assert set(found) == {"counts of the study", "scores of the study"}
    assert "by lowlevel, of the model" in found["counts of the study"]
    assert "right, the study" in found["counts of the study"]


def test_the_study_tells_of_other_weights_and_pictures(whole: Result, answered: Study, tmp_path: Path) -> None:
    other = whole.model_copy(
        update={
            "model": whole.model.model_copy(update={"weights": "0" * 32}),
            "pictures": (whole.pictures[0].model_copy(update={"units": whole.pictures[0].units[::-1]}),),
        }
    )
    found = failures(verify_result(write_result(other, tmp_path), study=answered))
    assert "model weights: the file says 000000" in found["study"]
    assert "no such answers" in found["counts of the study"]  # the made-up observer's
    assert "differs from what" in found["pictures of the study"]


# -------------------------------------------------------------------- published results


def test_published_results_hold_as_they_come(tmp_path: Path) -> None:
    published = make_published_results()
    verifications = verify_results([write_result(result, tmp_path / "results") for result in published])
    assert verifications.holds and len(verifications.files) == 9
    assert "compared it with the" in verifications.files[0].left_open


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("scores", 0, "value", to=0.9), "the published means are"),
        (_set("model", "name", to="my_model"), "no published numbers of my_model"),
        (_set("source", to=""), "source is not named"),
        (_set("model", "title", to="Better"), "model differs from what vimi writes"),
        (_set("scores", to=[]), "the file lacks it"),
    ],
)
def test_a_published_result_can_not_be_bettered(tmp_path: Path, change: Change, said: str) -> None:
    googlenet = next(result for result in make_published_results() if result.model.name == "googlenet")
    values = contents(googlenet)
    values["scores"][0].update(low=0.1, high=1.0) if "bettered" in said else None
    change(values)
    if values["scores"]:
        values["scores"][0]["high"] = max(values["scores"][0]["high"], values["scores"][0]["value"])
    found = failures(verify_result(write(values, tmp_path / "result.json", seal=True)))
    assert said in found["published"]


# -------------------------------------------------------------------- several files


@pytest.mark.usefixtures("unscored")
def test_files_must_not_contradict_each_other(whole: Result, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    write_result(whole, folder)
    write_result(cheat(whole), folder)
    found = [failures(verification) for verification in verify_results([folder])]
    assert all("has other counts" in own["others"] for own in found) and len(found) == 2
    units = (whole.units[0].model_copy(update={"flag": "dead"}), *whole.units[1:])
    (verification,) = verify_results([write_result(whole.model_copy(update={"units": units}).sealed(), folder)])
    assert "differs in its units or flags" in failures(verification)["others"]


@pytest.mark.usefixtures("unscored")
def test_one_file_is_held_against_those_beside_it(whole: Result, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    write_result(whole, folder)
    copy = whole.model_copy(update={"model": whole.model.model_copy(update={"name": "my_model"})})
    path = write_result(copy.sealed(), folder)
    (verification,) = verify_results([path])
    assert f"are those of {whole.model.name}" in failures(verification)["others"]


@pytest.mark.usefixtures("unscored")
def test_a_file_takes_the_place_of_its_own_models_alone(whole: Result, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    write_result(whole, folder)
    better = cheat(whole)
    fitting = better.model_copy(update={"replaces": (whole.hash,)}).sealed()
    assert verify_results([write_result(fitting, folder)]).holds
    fewer = whole.model_copy(update={"machines": whole.machines[:1], "people": (), "replaces": (whole.hash,)}).sealed()
    (verification,) = verify_results([write_result(fewer, folder)])
    assert "lacks counts that are there" in failures(verification)["others"]
    nowhere = better.model_copy(update={"replaces": ("f" * 32,)}).sealed()
    (verification,) = verify_results([write_result(nowhere, tmp_path / "more" / "results")])
    assert "which does not exist" in failures(verification)["others"]
    model = better.model.model_copy(update={"name": "mine", "weights": "1" * 32})
    rival = better.model_copy(update={"replaces": (whole.hash,), "model": model}).sealed()
    (verification,) = verify_results([write_result(rival, folder)])
    assert "which is about something else" in failures(verification)["others"]


@pytest.mark.usefixtures("unscored")
def test_the_same_result_twice_is_said(whole: Result, tmp_path: Path) -> None:
    paths = [write_result(whole, tmp_path / "one"), write_result(whole, tmp_path / "two")]
    found = [failures(verification) for verification in verify_results(paths)]
    assert all("is also in" in own["once"] for own in found)
    with pytest.raises(LeaderboardError, match="There is no result file"):
        verify_results([tmp_path / "nowhere"])


# -------------------------------------------------------------------- contributions


@pytest.fixture
def checkout(whole: Result, tmp_path: Path) -> Path:
    """A repository whose branch main has one result file."""
    root = tmp_path / "checkout"
    write_result(whole, root / FOLDER)
    git(root, "init", "--quiet", "--initial-branch=main")
    commit(root)
    git(root, "checkout", "--quiet", "-b", "mine")
    return root


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=vimi", "-c", "user.email=vimi@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "A step")


@pytest.mark.parametrize("committed", [True, False])
def test_one_new_file_is_a_contribution(checkout: Path, whole: Result, committed: bool) -> None:
    model = whole.model.model_copy(update={"name": "mine", "weights": "1" * 32})
    path = write_result(whole.model_copy(update={"model": model}), checkout / FOLDER)
    (checkout / "notes.txt").write_text("Something else.")
    if committed:
        commit(checkout)
    assert find_contribution("main", checkout).samefile(path)


def test_what_else_happens_to_results_is_refused(checkout: Path, whole: Result) -> None:
    old = checkout / FOLDER / whole.place

    def refused(match: str) -> None:
        with pytest.raises(LeaderboardError, match=match):
            find_contribution("main", checkout)
        commit(checkout)
        with pytest.raises(LeaderboardError, match=match):
            find_contribution("main", checkout)
        git(checkout, "reset", "--quiet", "--hard", "main")

    with pytest.raises(LeaderboardError, match="none is new"):
        find_contribution("main", checkout)
    old.write_text(old.read_text() + " ")
    refused("was changed")
    old.rename(old.with_name("moved.json"))
    refused("was deleted")
    for name in ("one.json", "two.json"):
        (checkout / FOLDER / name).write_text("{}")
    refused("2 are new")
    (checkout / FOLDER / "link.json").symlink_to("/etc/hostname")
    refused("not a result file")
    with pytest.raises(LeaderboardError, match="git merge-base failed"):
        find_contribution("--output=gone", checkout)


def test_the_command_answers_with_its_exit_code(
    checkout: Path, genuine: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = genuine.model.model_copy(update={"name": "mine", "weights": "1" * 32})
    path = write_result(genuine.model_copy(update={"model": model}), checkout / FOLDER)
    monkeypatch.chdir(checkout)
    done = CliRunner().invoke(app, ["leaderboard", "verify", "--against", "main"])
    assert done.exit_code == 0, done.output
    assert "holds" in done.output and "--study FOLDER" in done.output
    values = contents(read_result(path))
    score = seek(values, "score", "label")
    score.update(value=score["value"] - 0.05, low=0.0)
    write(values, path)
    done = CliRunner().invoke(app, ["leaderboard", "verify", str(path)])
    assert done.exit_code == 2
    assert "does not hold" in done.output and "its counts" in done.output


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_read_and_nothing_else(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in text and "pull_request_target" not in text
    for job in workflow["jobs"].values():
        assert "permissions" not in job and job["timeout-minutes"] <= 60
        for step in job["steps"]:
            if "uses" in step:
                name, _, version = step["uses"].partition("@")
                assert name in ("actions/checkout", "actions/setup-python")
                assert len(version.removeprefix("v").split(".")) == 3  # one release, no branch
            # What a pull request says of itself never becomes a part of a command.
            assert "${{" not in step.get("run", "")


def test_a_contribution_is_judged_by_the_command_that_anyone_can_run() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "leaderboard.yml").read_text(encoding="utf-8"))
    # YAML 1.1 reads the key "on" as true.
    assert workflow[True]["pull_request"]["paths"] == [f"{FOLDER}/**"]
    steps = workflow["jobs"]["verify"]["steps"]
    assert steps[-1]["run"] == 'vimi leaderboard verify --against "$BASE"'
    judge = next(step for step in steps if step.get("with", {}).get("path") == "vimi")
    assert "base.sha" in judge["with"]["ref"]
    assert any(".ci/run" in path.read_text(encoding="utf-8") for path in WORKFLOWS)


def test_a_twin_shares_no_training_data_with_its_relatives() -> None:
    """An own model trained on ImageNet, answered by an observer trained on it: its twin has seen no picture."""
    trained = made_up_result("own", score=0.8)
    facts = trained.model.model_copy(update={"training": TrainingSpec(data=["imagenet-1k"], images=1_281_167)})
    result, observer = trained.model_copy(update={"model": facts}), "features:efficientnet_lite0"
    assert is_relative(observer, "model", result) and not is_relative(observer, "twin", result)
    kin = result.model_copy(update={"model": facts.model_copy(update={"family": "efficientnet"})})
    assert is_relative(observer, "model", kin) and is_relative(observer, "twin", kin)

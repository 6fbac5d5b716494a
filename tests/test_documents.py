"""Documents: closed schemas, all problems at once, and the experiment file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from benchmark.documents import Document, parse, read_toml
from benchmark.errors import DocumentError
from benchmark.experiment import Experiment, ModelEntry, PoolSettings, parse_frozen, read_experiment
from benchmark.model_card import ModelCard
from benchmark.protocol import Rules

ONE_MODEL = '[[models]]\ncard = "resnet50"\n'


def write(folder: Path, text: str, name: str = "experiment.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    """Return what an experiment file is refused with."""
    with pytest.raises(DocumentError) as caught:
        read_experiment(write(folder, text))
    return str(caught.value)


def schemas_below(schema: type[Document]) -> Iterator[type[Document]]:
    for inner in schema.__subclasses__():
        yield inner
        yield from schemas_below(inner)


SCHEMAS = sorted(
    (schema for schema in schemas_below(Document) if schema.__module__.startswith("benchmark.")),
    key=lambda schema: schema.__name__,
)


def test_the_schemas_of_experiments_protocols_and_cards_are_all_found() -> None:
    assert {Experiment, ModelEntry, PoolSettings, Rules, ModelCard} <= set(SCHEMAS)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_every_key_with_a_slip_is_refused_and_answered_with_the_key_that_was_meant(schema: type[Document]) -> None:
    for key in schema.model_fields:
        slip = f"{key}x"
        with pytest.raises(DocumentError) as caught:
            parse(schema, {slip: 1}, "a document")
        answer = next(part for part in str(caught.value).split("; ") if "unknown key" in part)
        assert slip in answer
        assert f"'{key}'" in answer


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_a_key_that_is_near_to_none_is_refused_too(schema: type[Document]) -> None:
    with pytest.raises(DocumentError, match="zzqq: unknown key"):
        parse(schema, {"zzqq": 1}, "a document")


def test_what_has_been_read_can_not_be_changed() -> None:
    pool = PoolSettings()
    with pytest.raises(ValueError, match="frozen"):
        pool.crop = 64  # type: ignore[misc]


def test_the_place_of_a_problem_is_spelled_as_in_the_file(tmp_path: Path) -> None:
    text = ONE_MODEL + '[[models]]\ncrd = "vit_b32"\n'
    message = refusal(tmp_path, text)
    assert str(tmp_path / "experiment.toml") in message
    assert "[[models]] number 2 crd: unknown key. Did you mean 'card'?" in message
    assert "[[models]] number 2 card: this key is required" in message


def test_a_problem_of_a_whole_table_names_the_table(tmp_path: Path) -> None:
    message = refusal(tmp_path, ONE_MODEL + '[[models]]\ncard = "vit_b32"\ntraining_data = ["imagenet-1k"]\n')
    assert "[[models]] number 2: training_data and training_images must be given together" in message


def test_a_problem_in_a_list_names_the_list_and_the_place(tmp_path: Path) -> None:
    message = refusal(tmp_path, ONE_MODEL + '[stimuli]\ndifficulties = ["easy", "medum"]\n')
    assert "[stimuli] difficulties number 2:" in message
    assert "'medium'" in message and "'medum'" in message


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        """
        sed = 3
        protocol = "vimi7"
        [[models]]
        card = "resnet50"
        [pool]
        crop = 3
        sorce = "bundled"
        [visualization]
        preset = "fats"
        [session]
        main_trails = 40
        """,
    )
    for words in (
        "sed: unknown key. Did you mean 'seed'?",
        "protocol: there is no protocol 'vimi7'; known: imi2023, vimi1",
        "[pool] crop: Input should be greater than or equal to 32 (got 3)",
        "[pool] sorce: unknown key. Did you mean 'source'?",
        "[visualization] preset: Input should be 'fast' or 'imi2023' (got 'fats')",
        "[session] main_trails: unknown key. Did you mean 'main_trials'",
    ):
        assert words in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "models: name at least one model: [[models]] with a card"),
        (ONE_MODEL + ONE_MODEL, "models: a model is listed twice"),
        (ONE_MODEL + '[stimuli]\nconditions = ["natural", "natural"]\n', "[stimuli] conditions: name at least one"),
        (ONE_MODEL + "[stimuli]\ndifficulties = []\n", "[stimuli] difficulties: name at least one"),
        ('pool = "bundled"\n' + ONE_MODEL, "pool: Input should be"),
        ('models = ["resnet50"]\n', "[[models]] number 1: Input should be"),
        ('seed = "one"\n' + ONE_MODEL, "seed: must be a number, without quotation marks"),
        (
            ONE_MODEL + '[units]\nper_model = "6"\n',
            "[units] per_model: must be a number, without quotation marks (got",
        ),
        (ONE_MODEL + "[units]\nper_model = true\n", "[units] per_model: must be a number (got true)"),
        (ONE_MODEL + "twin = 1\n", "[[models]] number 1 twin: must be true or false (got 1)"),
        (ONE_MODEL + 'twin = "no"\n', "[[models]] number 1 twin: must be true or false, without quotation marks"),
        (
            '[models]\ncard = "resnet50"\n',
            "[models]: there may be several, so it is written with two",
        ),
        ("seed = -1\n" + ONE_MODEL, "seed: Input should be greater than or equal to 0 (got -1)"),
    ],
)
def test_a_wrong_experiment_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text)


def test_one_card_may_stand_in_an_experiment_with_two_checkpoints(tmp_path: Path) -> None:
    text = ONE_MODEL + 'weights = "a.pth"\n' + ONE_MODEL + 'weights = "b.pth"\n'
    assert len(read_experiment(write(tmp_path, text)).models) == 2


def test_a_file_that_is_no_toml_is_named_with_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "seed = 1\nprotocol = = 2\nunits = 3\n")
    with pytest.raises(DocumentError, match=r"experiment\.toml is not valid TOML.*line 2"):
        read_toml(path)


def test_a_missing_file_a_folder_and_a_picture_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"There is no file .*absent\.toml"):
        read_toml(tmp_path / "absent.toml")
    with pytest.raises(DocumentError, match="is a folder; a TOML file is needed"):
        read_toml(tmp_path)
    (tmp_path / "picture.toml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DocumentError, match="is not UTF-8 text"):
        read_toml(tmp_path / "picture.toml")


# ---------------------------------------------------------------- paths


def test_paths_are_relative_to_the_folder_of_the_file_not_to_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
    [pool]
    source = "folder:pictures/mine"
    [[models]]
    card = "cards/mine.toml"
    weights = "../weights/mine.safetensors"
    """
    path = write(tmp_path / "project", text)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    experiment = read_experiment(os.path.relpath(path))
    assert experiment.pool.source == f"folder:{tmp_path / 'project' / 'pictures' / 'mine'}"
    entry = experiment.models[0]
    assert Path(entry.card) == tmp_path / "project" / "cards" / "mine.toml"
    assert Path(entry.weights).resolve() == tmp_path / "weights" / "mine.safetensors"


def test_a_tilde_means_the_home_folder_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = '[pool]\nsource = "imagenet:~/pictures"\n[[models]]\ncard = "~/mine.toml"\nweights = "~/mine.pth"\n'
    experiment = read_experiment(write(tmp_path, text))
    assert experiment.pool.source == f"imagenet:{tmp_path / 'home' / 'pictures'}"
    assert experiment.models[0].card == str(tmp_path / "home" / "mine.toml")
    assert experiment.models[0].weights == str(tmp_path / "home" / "mine.pth")


@pytest.mark.parametrize("source", ["bundled", "imagenette", "webdataset:https://example.org/shard-{0..9}.tar"])
def test_what_is_no_path_stays_as_it_is(tmp_path: Path, source: str) -> None:
    text = f'[pool]\nsource = "{source}"\n[[models]]\ncard = "timm:test_vit"\nweights = "random"\n'
    experiment = read_experiment(write(tmp_path, text))
    assert experiment.pool.source == source
    assert experiment.models[0].card == "timm:test_vit"
    assert experiment.models[0].weights == "random"


def test_an_absolute_path_stays_absolute(tmp_path: Path) -> None:
    source = f"folder:{tmp_path / 'far' / 'away'}"
    experiment = read_experiment(write(tmp_path / "project", f'[pool]\nsource = "{source}"\n' + ONE_MODEL))
    assert experiment.pool.source == source


# ---------------------------------------------------------------- hash


def test_the_hash_does_not_depend_on_where_pool_weights_and_card_lie(tmp_path: Path) -> None:
    def text(folder: str) -> str:
        return (
            f'[pool]\nsource = "imagenet:{folder}pictures"\n'
            f'[[models]]\ncard = "{folder}mine.toml"\nweights = "{folder}mine.pth"\n'
        )

    hashes = {
        read_experiment(write(tmp_path / "here", text(""))).hash,
        read_experiment(write(tmp_path / "there", text("deep/down/"))).hash,
        read_experiment(write(tmp_path / "there", text(f"{tmp_path}/"))).hash,
    }
    assert len(hashes) == 1


def plain() -> dict[str, Any]:
    return {"models": [{"card": "resnet50"}]}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 43},
        {"protocol": "imi2023"},
        {"pool": {"source": "imagenet:pictures"}},
        {"pool": {"source": "folder:pictures", "crop": 128}},
        {"pool": {"source": "folder:pictures", "view": "model"}},
        {"models": [{"card": "resnet50", "twin": True}]},
        {"models": [{"card": "vit_b32"}]},
        {"models": [{"card": "resnet50"}, {"card": "vit_b32"}]},
        {"models": [{"card": "resnet50", "weights": "other.pth"}]},
        {"models": [{"card": "resnet50", "training_data": ["imagenet-1k"], "training_images": 5}]},
        {"units": {"per_model": 5}},
        {"stimuli": {"tasks": 5}},
        {"visualization": {"steps": 7}},
        {"session": {"main_trials": 6}},
    ],
)
def test_the_hash_changes_with_everything_that_is_decided(change: dict[str, Any]) -> None:
    base = {"pool": {"source": "folder:pictures"}, **plain()}
    before = parse(Experiment, base, "before")
    after = parse(Experiment, {**base, **change}, "after")
    assert before.hash != after.hash


@pytest.mark.parametrize(
    "change",
    [{"texts": {"language": "de"}}, {"recruitment": {"recruiter": "prolific"}}, {"hosting": {"quiz": True}}],
)
def test_how_people_are_received_has_a_hash_of_its_own(change: dict[str, Any]) -> None:
    before, after = Experiment.model_validate(plain()), Experiment.model_validate({**plain(), **change})
    assert before.hash == after.hash and before.hosting_hash != after.hosting_hash


def test_an_experiment_that_spells_out_the_defaults_has_the_same_hash(tmp_path: Path) -> None:
    short = read_experiment(write(tmp_path, ONE_MODEL))
    values = short.model_dump(mode="json", exclude_none=True)
    long = read_experiment(write(tmp_path, tomli_w.dumps(values), "long.toml"))
    assert long == short
    assert long.hash == short.hash


def test_what_a_study_froze_before_a_setting_existed_keeps_its_hash_and_its_meaning(tmp_path: Path) -> None:
    # Hashes by the release that knew neither "version" nor "shown", and whose canvas was 224 px.
    both = {"conditions": ["natural", "synthetic"]}
    old: dict[str, tuple[str, dict[str, Any]]] = {
        "nothing": ("cf11b5f075edb5b9941d149897a8474e", {}),
        "unused": ("9e8e22f0b5980dc4530ef6943532a316", {"visualization": {"canvas": 64, "steps": 60}}),
        "paper": (
            "c020e1d73564ee2d06687cf203c013b6",
            {"stimuli": both, "visualization": {"preset": "imi2023", "canvas": 224}},
        ),
        "fast": (
            "64adbb9a64a778ff70031e80a8c77d15",
            {"stimuli": both, "visualization": {"canvas": 64, "steps": 60, "units": 16, "twins": True}},
        ),
    }
    for name, (known, values) in old.items():
        given = {"models": [{"card": "resnet50"}], **values}
        frozen = parse_frozen(given, "a study")
        assert frozen.hash == known, name
        assert (frozen.visualization.version, frozen.visualization.shown) == (1, "canvas")
        # The same file given for a new study means the same, unless its pictures are now made in another way.
        assert (Experiment.model_validate(given).hash == known) == (name != "fast")
        folder = tmp_path / name
        folder.mkdir()
        (folder / "experiment.toml").write_text(tomli_w.dumps(given))
        assert read_experiment(folder / "experiment.toml").visualization.shown == "smooth"
        (folder / "manifest.json").write_text("{}")
        assert read_experiment(folder / "experiment.toml").visualization == frozen.visualization


def test_how_pictures_are_shown_is_part_of_the_identity_where_it_changes_them() -> None:
    def hashed(**visualization: Any) -> str:
        values = {"models": [{"card": "resnet50"}], "stimuli": {"conditions": ["synthetic"]}}
        return Experiment.model_validate({**values, "visualization": visualization}).hash

    ways = ("smooth", "pixels", "canvas")
    assert len({hashed(shown=way) for way in ways}) == 3
    assert len({hashed(shown=way, canvas=64) for way in ways}) == 3
    assert len({hashed(shown=way, canvas=224) for way in ways}) == 1, "nothing is enlarged"


def test_asking_for_twins_adds_one_to_every_model() -> None:
    experiment = parse(Experiment, {"models": [{"card": "resnet50"}, {"card": "vit_b32", "twin": True}]}, "two models")
    assert [entry.twin for entry in experiment.with_twins().models] == [True, True]

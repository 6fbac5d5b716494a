"""Any laboratory's table comes in by a mapping; what breaks is named by row, column and reason."""

from __future__ import annotations

import gzip
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.dataset import Dataset, describe, read_dataset
from analysis.importing.mapping import (
    FileLayout,
    Fold,
    KindRule,
    MappedModel,
    Mapping,
    UnitMapping,
    Wide,
    read_mapping,
)
from analysis.importing.rules import MappingRule, Test
from analysis.importing.tables import import_csv
from analysis.judgement_table import judgements
from benchmark.documents import parse
from benchmark.errors import DocumentError, ImportFailure

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data" / "borowski2021" / "experiment_1.csv"
REAL_MAPPING = ROOT / "docs" / "examples" / "borowski2021.toml"

PLAIN = """
name = "plain"
protocol = "plain2020"

[columns]
observer = "who"
model = { value = "resnet50" }
layer = "layer"
index = "unit"
condition = "kind"
choice = "chosen"
query_top = "top"
"""

ROWS = """who,layer,unit,kind,chosen,top,rt,sure
ann,layer1,3,natural,max,max,1.5,80
ann,layer2,4,natural,min,max,2.25,10
ben,layer1,3,synthetic,max,min,0.5,50
ben,layer2,4,synthetic,max,max,3,
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, rows: str, mapping: str, name: str = "answers.csv") -> Dataset:
    return import_csv(write(folder, name, rows), write(folder, "mapping.toml", mapping))


def refused(folder: Path, rows: str, mapping: str) -> str:
    with pytest.raises((ImportFailure, DocumentError)) as caught:
        read(folder, rows, mapping)
    return str(caught.value)


def plain(**columns: str) -> str:
    """Return the plain mapping with columns added or replaced, each as TOML."""
    lines = [line for line in PLAIN.splitlines() if line.split(" = ")[0] not in columns]
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in columns.items() if value)]) + "\n"


# ---------------------------------------------------------------- real answers


needs_answers = pytest.mark.skipif(not REAL.is_file(), reason="the answers of 2021 are not on this machine")


@pytest.fixture(scope="module")
def real() -> Dataset:
    return import_csv(REAL, REAL_MAPPING)


@needs_answers
def test_the_answers_of_2021_give_what_was_published(real: Dataset) -> None:
    main = real.responses[(real.responses["kind"] == "main") & (real.responses["references"] == "both")]
    for condition, right in (("natural", 415), ("synthetic", 369)):
        own = main[main["condition"] == condition]
        assert (len(own), int(own["correct"].sum())) == (450, right)
    means = main.groupby(["condition", "confidence"])["correct"].mean().round(3)
    assert means["natural"].tolist() == [0.776, 0.866, 0.975]
    assert means["synthetic"].tolist() == [0.716, 0.809, 0.955]
    kinds = real.responses[real.responses["references"] == "both"].groupby(["kind", "condition"])["correct"].mean()
    assert kinds["repeated"].round(3).tolist() == [0.95, 0.833]
    assert kinds["catch"].round(3).tolist() == [0.989, 0.989]


@needs_answers
def test_trials_without_references_stay_apart_before_and_after(real: Dataset) -> None:
    none = real.responses[(real.responses["references"] == "none") & (real.responses["kind"] == "main")]
    part = none["session"].str.rpartition("/")[2]
    assert none.groupby(part)["correct"].mean().round(3).to_dict() == {"after": 0.415, "before": 0.447}
    assert none.groupby("observer")["session"].nunique().eq(2).all()


@needs_answers
def test_units_times_and_people_of_2021_are_as_published(real: Dataset) -> None:
    raw = pd.read_csv(REAL)
    assert len(real.responses) == len(raw) == 1860
    assert np.allclose(real.responses["rt_ms"].dropna(), 1000 * raw.loc[raw["RT"] >= 0, "RT"])
    assert real.responses["rt_ms"].isna().sum() == (raw["RT"] < 0).sum() == 1
    assert any(note.startswith("1 cells of 'RT'") for note in real.notes)
    tidy = judgements(real.responses)
    assert tidy["participant"].nunique() == 10
    assert tidy["unit"].nunique() == 45
    assert (real.responses["choice"].eq(real.responses["query_top"]).to_numpy() == (raw["response"] == "a")).all()
    assert real.models.set_index("model").loc["googlenet", "parameters"] == 7_066_380
    assert real.units["depth"].between(0, 1).sum() == 45


# ---------------------------------------------------------------- the plain case


def test_a_plain_table_comes_in_and_says_what_was_taken_for_granted(tmp_path: Path) -> None:
    dataset = read(tmp_path, ROWS, PLAIN)
    answers = dataset.responses
    assert answers["correct"].tolist() == [True, False, True, True]
    assert answers["trial_index"].tolist() == [0, 1, 0, 1]
    assert answers["session"].tolist() == answers["observer"].tolist() == ["ann", "ann", "ben", "ben"]
    assert dataset.units["unit"].tolist() == ["resnet50/layer1/3", "resnet50/layer2/4"]
    assert dataset.sessions["cell"].tolist() == ["natural-easy", "synthetic-easy"]
    assert {note.partition(":")[0] for note in dataset.notes} == {
        "the mapping tells no difficulty",
        "the mapping does not tell which references were shown",
        "the mapping does not tell the tasks of a unit apart",
    }
    assert set(dataset.sources) == {"answers.csv", "mapping.toml"}
    assert dataset.origin["mapping"]["columns"]["layer"] == [{"column": "layer"}]
    assert "Not recorded: confidence, rt_ms" in str(describe(dataset))


def test_what_was_imported_can_be_written_and_read(tmp_path: Path) -> None:
    dataset = read(tmp_path, ROWS, PLAIN)
    back = read_dataset(dataset.write(tmp_path / "out"))
    pd.testing.assert_frame_equal(back.responses, dataset.responses)
    pd.testing.assert_frame_equal(back.units, dataset.units)
    pd.testing.assert_frame_equal(back.models, dataset.models)
    assert (back.notes, back.origin, back.protocol) == (dataset.notes, dataset.origin, "plain2020")


# ---------------------------------------------------------------- how answers are told


TELLING = """who,layer,unit,kind,pressed,right,top,verdict,picked
a,l,1,natural,f,f,max,1,max
a,l,1,natural,j,f,max,0,min
a,l,1,natural,j,j,min,1,max
a,l,1,natural,f,j,min,0,min
"""
KEYS = '{ column = "pressed", values = { f = "upper", j = "lower" } }'
TOP = '{ column = "right", values = { f = "max", j = "min" } }'


@pytest.mark.parametrize(
    "columns",
    [
        {"choice": '"picked"', "query_top": '"top"'},
        {"choice": '"picked"', "position": KEYS, "query_top": ""},
        {"correct": '"verdict"', "query_top": '"top"', "choice": ""},
        {"correct": '"verdict"', "position": KEYS, "choice": "", "query_top": ""},
        {"answer": '"pressed"', "right_answer": '"right"', "query_top": TOP, "choice": ""},
        {"answer": '"pressed"', "right_answer": '"right"', "position": KEYS, "choice": "", "query_top": ""},
        {"position": KEYS, "query_top": '"top"', "choice": ""},
        {"position": KEYS, "query_top": '"top"', "choice": '"picked"', "correct": '"verdict"'},
    ],
)
def test_whatever_tells_the_answer_gives_the_same_answer(columns: dict[str, str], tmp_path: Path) -> None:
    answers = read(tmp_path, TELLING, plain(**columns)).responses
    assert answers["correct"].tolist() == [True, False, True, False]
    assert answers["choice"].tolist() == ["max", "min", "max", "min"]
    assert answers["query_top"].tolist() == ["max", "max", "min", "min"]


def test_ways_to_tell_the_answer_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    message = refused(
        tmp_path,
        TELLING.replace("f,j,min,0", "f,j,min,1"),
        plain(correct='"verdict"', position=KEYS, choice='"picked"', query_top='"top"'),
    )
    assert "row 5: the answer; 'verdict' (for correct) says right, but 'picked' (for choice) says wrong" in message
    message = refused(tmp_path, TELLING.replace("1,max\na,l,1,natural,j,f,max", "1,max\na,l,1,natural,f,f,max"),
                      plain(correct='"verdict"', position=KEYS, choice='"picked"', query_top='"top"'))  # fmt: skip
    assert "1 of 4 rows" in message and "row 3" in message and "the position that was chosen says right" in message


def test_where_positions_were_not_recorded_a_coin_stands_in_and_the_notes_say_so(tmp_path: Path) -> None:
    rows = "who,layer,unit,kind,verdict\n" + "".join(f"p{n % 7},l,{n % 5},natural,{n % 2}\n" for n in range(400))
    mapping = plain(correct='"verdict"', choice="", query_top="").replace(
        'protocol =', 'positions = "unknown"\nprotocol ='
    )  # fmt: skip
    dataset = read(tmp_path, rows, mapping)
    assert 150 < (dataset.responses["query_top"] == "max").sum() < 250
    assert any("coin" in note for note in dataset.notes)
    assert read(tmp_path, rows, mapping).responses["query_top"].equals(dataset.responses["query_top"])
    assert 'positions = "unknown"' in refused(tmp_path, rows, plain(correct='"verdict"', choice="", query_top=""))


def test_a_trial_without_an_answer_is_named_until_a_rule_leaves_it_out(tmp_path: Path) -> None:
    rows = ROWS.replace("min,max,2.25", ",max,2.25")
    message = refused(tmp_path, rows, PLAIN)
    assert "row 3: the answer; nothing says whether it is right" in message and 'kind = "drop"' in message
    rule = '\n[[kinds]]\nkind = "drop"\nwhere = { chosen = { missing = true } }\nreason = "no answer"\n'
    dataset = read(tmp_path, rows, PLAIN + rule)
    assert len(dataset.responses) == 3
    assert "1 rows left out: no answer" in dataset.notes
    assert dataset.responses["response_id"].tolist() == [f"plain:answers.csv#{n}" for n in (2, 4, 5)]


# ---------------------------------------------------------------- the language


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ('{ column = "rt", scale = 1000 }', [1500, 2250, 500, 3000]),
        ('{ column = "rt", scale = 1000, offset = 10, least = 600 }', [1510, 2260, None, 3010]),
        ('{ column = "rt", scale = 1000, most = 2000 }', [1500, None, 500, None]),
        ('[{ column = "rt", where = { who = "ann" } }, { value = 7 }]', [1.5, 2.25, 7, 7]),
        ('{ column = "rt", where = { sure = { above = 20, below = 60 } } }', [None, None, 0.5, None]),
        ('{ column = "rt", where = { sure = { missing = false }, who = { not = "ann" } } }', [None, None, 0.5, None]),
        ('{ column = "rt", missing = ["0.5", 3] }', [1.5, 2.25, None, None]),
        ('{ column = "rt", where = { layer = { matches = "er(2|3)$" } } }', [None, 2.25, None, 3]),
        ('{ template = "{unit}{unit}", scale = 1 }', [33, 44, 33, 44]),
    ],
)
def test_numbers_are_made_as_the_rule_says(rule: str, wanted: list[Any], tmp_path: Path) -> None:
    found = read(tmp_path, ROWS, plain(rt_ms=rule)).responses["rt_ms"]
    assert found.astype(object).where(found.notna(), None).tolist() == wanted


def test_a_slider_becomes_three_bins_and_a_signed_rating_loses_its_sign(tmp_path: Path) -> None:
    bins = '{ column = "sure", bins = [33, 66, 100] }'
    assert read(tmp_path, ROWS, plain(confidence=bins)).responses["confidence"].tolist() == [3, 1, 2, pd.NA]
    message = refused(tmp_path, ROWS.replace("1.5,80", "1.5,101"), plain(confidence=bins))
    assert "row 2: 'sure' (for confidence) is '101'; it lies above the last bin" in message
    signed = ROWS.replace(",80", ",-3").replace(",10", ",2").replace(",50", ",-1")
    rule = '{ column = "sure", absolute = true }'
    assert read(tmp_path, signed, plain(confidence=rule)).responses["confidence"].tolist() == [3, 2, 1, pd.NA]


def test_names_come_from_templates_patterns_replacements_and_codes(tmp_path: Path) -> None:
    rows = """who,place,kind,chosen,top,picture
p1,mixed4a/unit_17,natural,max,max,b.png
p1,mixed4b/unit_3,natural,max,max,a.png
"""
    mapping = plain(
        observer='{ template = "lab-{who}" }',
        layer='{ column = "place", pattern = \'^(.+)/\', replace = { mixed = "m" } }',
        index="{ column = \"place\", pattern = 'unit_(\\d+)', offset = -1 }",
        task='{ column = "picture", codes = true }',
    )
    answers = read(tmp_path, rows, mapping).responses
    assert answers["observer"].tolist() == ["lab-p1"] * 2
    assert answers["layer"].tolist() == ["m4a", "m4b"]
    assert answers["index"].tolist() == [16, 2]
    assert answers["task"].tolist() == [1, 0]


def test_values_meet_cells_in_any_spelling_of_case_and_number_and_name_those_they_do_not_list(tmp_path: Path) -> None:
    rows = "who,layer,unit,kind,chosen,top\na,l,1,NAT,1.0,True\na,l,1,syn,2,false\n"
    mapping = plain(
        condition='{ column = "kind", values = { nat = "natural", syn = "synthetic" } }',
        choice='{ column = "chosen", values = { 1 = "max", 2 = "min" } }',
        query_top='{ column = "top", values = { true = "max", false = "min" } }',
    )
    answers = read(tmp_path, rows, mapping).responses
    assert answers[["condition", "choice", "query_top"]].to_numpy().tolist() == [
        ["natural", "max", "max"],
        ["synthetic", "min", "min"],
    ]
    message = refused(tmp_path, rows.replace("syn,", "synt,"), mapping)
    assert "row 3: 'kind' (for condition) is 'synt'; the mapping's values do not list it. Did you mean 'syn'" in message


def test_kinds_go_by_the_first_rule_that_a_row_passes(tmp_path: Path) -> None:
    rules = """
[[kinds]]
kind = "practice"
where = { who = "ann", rt = { at_most = 1.5 } }
[[kinds]]
kind = "catch"
where = { who = ["ann", "cem"] }
[[kinds]]
kind = "repeated"
where = { sure = 50 }
"""
    assert read(tmp_path, ROWS, PLAIN + rules).responses["kind"].tolist() == ["practice", "catch", "repeated", "main"]
    by_column = plain(
        kind='{ column = "sure", values = { 80 = "practice", 10 = "catch", 50 = "drop" }, otherwise = "main" }'
    )
    assert read(tmp_path, ROWS, by_column).responses["kind"].tolist() == ["practice", "catch", "main"]


def test_practice_and_catch_trials_need_not_name_a_unit_but_others_must(tmp_path: Path) -> None:
    rows = ROWS.replace("ann,layer1,3", "ann,,")
    rule = '\n[[kinds]]\nkind = "practice"\nwhere = { layer = { missing = true } }\n'
    first = read(tmp_path, rows, PLAIN + rule).responses.iloc[0]
    assert (first["kind"], first["layer"], first["index"]) == ("practice", "practice", 0)
    message = refused(tmp_path, rows, PLAIN)
    assert "row 2: 'layer' is empty; it is needed" in message and "row 2: 'unit' (for index) is empty" in message


def test_facts_of_sessions_units_and_models(tmp_path: Path) -> None:
    rows = (
        "who,layer,unit,kind,chosen,top,type,ms,stamp,before\n"
        "ann,,,,,,instructions,20000,1000,\n"
        "ann,l1,3,natural,max,max,trial,900,31000,no\n"
        "ann,l2,3,natural,min,max,trial,800,91500,no\n"
        "ben,,,,,,instructions,9000,0,\n"
        "ben,l1,3,natural,max,max,trial,900,4000,yes\n"
    )
    mapping = plain(model='{ value = "newnet" }', answered_at='{ column = "stamp", time = "ms" }') + """
[[kinds]]
kind = "drop"
where = { type = "instructions" }
reason = "no trials"
[sessions]
instruction_seconds = { column = "ms", where = { type = "instructions" }, take = "sum", scale = 0.001 }
total_seconds = { column = "stamp", where = { type = "trial" }, take = "span", scale = 0.001 }
earlier_participation = "before"
[units]
depth = { column = "layer", values = { l1 = 0.25, l2 = 1 } }
width = { value = 64 }
kind = { value = "convolution" }
[models.newnet]
parameters = 1_000_000
top1 = 0.7
year = 2024
family = "newnet"
"""  # fmt: skip
    dataset = read(tmp_path, rows, mapping)
    assert dataset.sessions["instruction_seconds"].tolist() == [20, 9]
    assert dataset.sessions["total_seconds"].tolist() == [60.5, 0]
    assert dataset.sessions["earlier_participation"].tolist() == [False, True]
    assert str(dataset.sessions["begun_at"][0]) == "1970-01-01 00:00:31+00:00"
    assert dataset.units[["depth", "width", "kind"]].to_numpy().tolist() == [
        [0.25, 64.0, "convolution"],
        [1.0, 64.0, "convolution"],
    ]
    facts = dataset.models.iloc[0]
    assert (facts["parameters"], facts["top1"], facts["year"], facts["family"]) == (1e6, 0.7, 2024, "newnet")
    assert np.isnan(facts["training_images"])
    message = refused(tmp_path, rows, mapping.replace("[models.newnet]", "[models.newnett]"))
    assert "no answer is about 'newnett'" in message and "newnet" in message


# ---------------------------------------------------------------- files


def test_semicolons_decimal_commas_other_encodings_and_lines_above_the_header(tmp_path: Path) -> None:
    text = "made by a laboratory\n\n" + ROWS.replace(".", "!").replace(",", ";").replace("!", ",").replace(
        "ann", "Ännе"[:3]
    )
    path = tmp_path / "answers.txt"
    path.write_bytes(text.encode("latin-1"))
    mapping = plain(rt_ms='{ column = "rt", scale = 1000 }').replace(
        "[columns]", '[file]\nskip = 2\nencoding = "latin-1"\ndecimal = ","\n[columns]'
    )
    dataset = import_csv(path, write(tmp_path, "m.toml", mapping))
    assert dataset.responses["rt_ms"].tolist() == [1500, 2250, 500, 3000]
    assert dataset.responses["observer"][0] == "Änn"
    assert dataset.responses["response_id"][0] == "plain:answers.txt#4"
    with pytest.raises(ImportFailure, match="encoding"):
        import_csv(path, write(tmp_path, "m.toml", mapping.replace("latin-1", "utf-8")))


def test_tabs_packed_files_and_files_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "answers.tsv.gz"
    path.write_bytes(gzip.compress(ROWS.replace(",", "\t").encode("utf-16")))
    mapping = PLAIN.replace("[columns]", '[file]\nencoding = "utf-16"\n[columns]')
    assert len(import_csv(path, write(tmp_path, "m.toml", mapping)).responses) == 4
    header, _, body = ROWS.partition("\n")
    named = PLAIN.replace("[columns]", f"[file]\nheader = {json.dumps(header.split(','))}\n[columns]")
    assert read(tmp_path, body, named).responses["response_id"][0] == "plain:answers.csv#1"


def test_a_folder_of_files_one_for_each_person(tmp_path: Path) -> None:
    header, *lines = ROWS.splitlines()
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, own in (("s01", lines[:2]), ("s02", lines[2:])):
        write(folder, f"{name}.csv", "\n".join([header, *own]))
    mapping = plain(observer='"person"').replace("[columns]", '[file]\nname = "person"\n[columns]')
    path = write(tmp_path, "m.toml", mapping)
    for given in (folder, folder / "*.csv", [folder / "s01.csv", folder / "s02.csv"]):
        assert import_csv(given, path).responses["observer"].tolist() == ["s01", "s01", "s02", "s02"]
    broken = write(folder, "s02.csv", "\n".join([header, lines[2].replace("max,min", "max,mean")]))
    with pytest.raises(ImportFailure, match=r"s02\.csv, row 2: 'top' \(for query_top\) is 'mean'"):
        import_csv(folder, path)
    broken.unlink()


def test_an_empty_line_does_not_shift_the_numbers_of_rows(tmp_path: Path) -> None:
    rows = ROWS.replace("ann,layer2", "\nann,layer2").replace("max,min,0.5", "max,most,0.5")
    assert "row 5: 'top'" in refused(tmp_path, rows, PLAIN)


def test_more_is_known_of_units_in_another_file(tmp_path: Path) -> None:
    write(tmp_path, "units.csv", "unit_name;layer;unit\nA;layer1;3\nB;layer2;4\n")
    rows = "who,name,kind,chosen,top\nann,A,natural,max,max\nann,B,natural,max,max\n"
    mapping = PLAIN + '\n[[join]]\nfile = "units.csv"\non = { name = "unit_name" }\n'
    dataset = read(tmp_path, rows, mapping)
    assert dataset.responses["index"].tolist() == [3, 4]
    assert set(dataset.sources) == {"answers.csv", "mapping.toml", "units.csv"}
    message = refused(tmp_path, rows.replace("ann,B", "ann,C"), mapping)
    assert "row 3: the row; units.csv has no row for it (name)" in message
    write(tmp_path, "units.csv", "unit_name;layer;unit\nA;layer1;3\nA;layer2;4\n")
    assert "row 3 is a second one with unit_name = 'A'" in refused(tmp_path, rows, mapping)


# ---------------------------------------------------------------- other layouts


def test_an_export_of_jspsych_with_nested_answers_and_a_rating_in_a_row_of_its_own(tmp_path: Path) -> None:
    def trial(person: str, number: int, right: str, pressed: str, sure: int) -> list[dict[str, Any]]:
        data = {
            "subject": person,
            "n": number,
            "stim": f"resnet50/layer3.2.conv1/channel_{number}",
            "correct_side": right,
        }
        return [
            {**data, "trial_type": "image-keyboard", "phase": "choice", "rt": 1234.5, "response": pressed},
            {**data, "trial_type": "survey-likert", "phase": "rating", "rt": 800, "response": {"Q0": sure}},
        ]

    people = {
        "P1": trial("P1", 1, "left", "arrowleft", 2) + trial("P1", 2, "right", "arrowleft", 0),
        "P2": trial("P2", 1, "left", "arrowright", 1) + trial("P2", 2, "right", "arrowright", 2),
    }
    intro = {"trial_type": "instructions", "phase": "instructions", "rt": 30000, "n": -1}
    lines = "\n".join(json.dumps([{**intro, "subject": name}, *own]) for name, own in people.items())
    mapping = """
name = "jspsych"
protocol = "ours"
[fold]
by = ["subject", "n"]
part = "phase"
[columns]
observer = "subject"
model = { column = "stim", pattern = '^(.+?)/' }
layer = { column = "stim", pattern = '/(.+)/' }
index = { column = "stim", pattern = 'channel_(\\d+)' }
condition = { value = "natural" }
query_top = { column = "correct_side", values = { left = "max", right = "min" } }
position = { column = "choice.response", values = { arrowleft = "upper", arrowright = "lower" } }
rt_ms = "choice.rt"
confidence = { column = "rating.response.Q0", offset = 1 }
[[kinds]]
kind = "drop"
where = { n = { below = 0 } }
[sessions]
instruction_seconds = { column = "instructions.rt", scale = 0.001 }
"""
    dataset = read(tmp_path, lines, mapping, "jatos.txt.json")
    answers = dataset.responses
    assert answers["correct"].tolist() == [True, False, False, True]
    assert answers["confidence"].tolist() == [3, 1, 2, 3]
    assert answers["rt_ms"].tolist() == [1234.5] * 4
    assert answers["layer"].unique().tolist() == ["layer3.2.conv1"]
    assert dataset.sessions["instruction_seconds"].tolist() == [30, 30]


def test_an_export_of_psychopy_with_key_names_lists_in_strings_and_the_name_in_one_row(tmp_path: Path) -> None:
    rows = """participant;trials.thisN;layer;unit;cond;corrAns;key_resp.keys;key_resp.rt;key_resp.corr;rating.response
07;;;;;;;;;
;0;conv2;12;foto;up;['up'];[0,81];1;3
;1;conv2;12;synth;down;['up'];[1,25];0;1
;2;conv3;5;foto;down;None;;0;
"""
    mapping = """
name = "psychopy"
protocol = "theirs"
[file]
decimal = ","
fill = ["participant"]
[columns]
observer = "participant"
trial_index = "trials.thisN"
model = { value = "alexnet" }
layer = "layer"
index = "unit"
condition = { column = "cond", values = { foto = "natural", synth = "synthetic" } }
answer = { column = "key_resp.keys", pattern = '\\w+' }
right_answer = "corrAns"
correct = "key_resp.corr"
position = { column = "key_resp.keys", pattern = '\\w+', values = { up = "upper", down = "lower" } }
rt_ms = { column = "key_resp.rt", pattern = '[\\d,]+', scale = 1000 }
confidence = "rating.response"
[[kinds]]
kind = "drop"
where = { "trials.thisN" = { missing = true } }
reason = "no trial"
[[kinds]]
kind = "drop"
where = { "key_resp.keys" = "None" }
reason = "no key pressed in time"
"""
    dataset = read(tmp_path, rows, mapping)
    assert dataset.responses["observer"].tolist() == ["07", "07"]
    assert dataset.responses["rt_ms"].tolist() == [810, 1250]
    assert dataset.responses["query_top"].tolist() == ["max", "min"]
    assert "1 rows left out: no key pressed in time" in dataset.notes
    assert np.isnan(dataset.models["parameters"][0])


def test_a_row_a_person_with_columns_for_each_trial(tmp_path: Path) -> None:
    rows = "id,age,t1_unit,t1_ans,t1_rt,t2_unit,t2_ans,t2_rt\nx,30,4,A,900,5,B,800\ny,41,5,B,700,4,A,600\n"
    mapping = """
name = "wide"
protocol = "wide"
[wide]
pattern = 't(?P<trial>\\d+)_(?P<field>\\w+)'
[columns]
observer = "id"
trial_index = { column = "trial", offset = -1 }
model = { value = "resnet50" }
layer = { value = "layer1" }
index = "unit"
condition = { value = "natural" }
position = { column = "ans", values = { A = "upper", B = "lower" } }
query_top = { value = "max" }
rt_ms = "rt"
"""
    answers = read(tmp_path, rows, mapping).responses
    assert answers[["observer", "trial_index", "index", "correct", "rt_ms"]].to_numpy().tolist() == [
        ["x", 0, 4, True, 900],
        ["x", 1, 5, False, 800],
        ["y", 0, 5, False, 700],
        ["y", 1, 4, True, 600],
    ]
    assert answers["response_id"].is_unique
    assert "row 3: 'ans'" in refused(tmp_path, rows.replace("y,41,5,B", "y,41,5,C"), mapping)


def test_json_with_a_list_of_trials_in_each_record_and_json_in_cells(tmp_path: Path) -> None:
    trial = {"unit": 3, "kind": "natural", "chosen": "max", "top": "max", "layer": "l1"}
    records = [{"who": "ann", "data": {"trials": [trial, trial]}}, {"who": "ben", "data": {"trials": [trial]}}]
    mapping = PLAIN.replace("[columns]", '[file]\nrows = "data.trials"\n[columns]')
    dataset = read(tmp_path, json.dumps(records), mapping, "answers.json")
    assert dataset.responses["observer"].tolist() == ["ann", "ann", "ben"]
    cells = 'who,data\nann,"' + json.dumps(trial).replace('"', '""') + '"\n'
    mapping = plain(
        layer='"data.layer"',
        index='"data.unit"',
        condition='"data.kind"',
        choice='"data.chosen"',
        query_top='"data.top"',
    )
    dataset = read(tmp_path, cells, mapping.replace("[columns]", '[file]\njson = ["data"]\n[columns]'))
    assert dataset.responses["index"].tolist() == [3]


def test_parquet_comes_in_by_a_mapping_too(tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    write(tmp_path, "rows.csv", ROWS)
    pd.read_csv(tmp_path / "rows.csv").to_parquet(path)
    dataset = import_csv(path, write(tmp_path, "m.toml", plain(confidence='{ column = "sure", bins = [33, 66, 100] }')))
    assert dataset.responses["index"].tolist() == [3, 4, 3, 4]
    assert dataset.responses["confidence"].tolist() == [3, 1, 2, pd.NA]


# ---------------------------------------------------------------- the manual


def test_the_manual_says_what_the_language_knows() -> None:
    manual = (ROOT / "docs" / "importing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", manual, flags=re.DOTALL)
    assert parse(Mapping, tomllib.loads(blocks[0]), "manual").name == "our-lab-2024"
    for block in blocks[1:]:
        given = tomllib.loads(blocks[0]) | tomllib.loads(block)
        assert parse(Mapping, given, "manual").model_fields_set > {"columns"}
    known = [MappingRule, Test, FileLayout, Wide, Fold, KindRule, MappedModel, UnitMapping]
    names = {field.alias or name for document in known for name, field in document.model_fields.items()}
    assert not {name for name in names if not re.search(rf"\b{name}\b", manual)}


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_every_example_is_a_valid_mapping(path: Path) -> None:
    assert read_mapping(path).columns


# ---------------------------------------------------------------- what breaks


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        (PLAIN + "\n[column]\n", ["column: unknown key", "'columns'"]),
        (plain(laier='"layer"'), ["there is no 'laier' to map to", "'layer'"]),
        (plain(layer='{ colum = "layer" }'), ["colum", "unknown key", "'column'"]),
        (plain(layer='"laye"'), ["[columns] layer", "no column 'laye'", "'layer'"]),
        (plain(layer='"{laye}.{unit}"'), ["no column 'laye'"]),
        (plain(layer=""), ["[columns] must name layer"]),
        (plain(choice=""), ["must say which answers are right"]),
        (plain(layer='{ column = "layer", value = "x" }'), ["exactly one source"]),
        (plain(layer="{ column = \"layer\", pattern = '(' }"), ["not a regular expression"]),
        (PLAIN + '\n[[kinds]]\nkind = "cach"\nwhere = { who = "ann" }\n', ["[kinds]", "number 1", "'catch'"]),
        (PLAIN + '\n[[kinds]]\nkind = "catch"\nwhere = { woh = "ann" }\n', ["[[kinds]] number 1", "no column 'woh'"]),
        (PLAIN + '\n[sessions]\ntotal_second = "rt"\n', ["there is no 'total_second'", "'total_seconds'"]),
        (PLAIN + '\n[[kinds]]\nkind = "drop"\n', ["drops all 4 rows"]),
        (PLAIN + '\n[sessions]\ntotal_seconds = "rt"\n', ["row 3: 'rt' (for total_seconds)", "something else", "take"]),
        ("name = 3", ["mapping.toml"]),
    ],
)  # fmt: skip
def test_a_mapping_that_is_wrong_is_refused_in_words(mapping: str, words: list[str], tmp_path: Path) -> None:
    message = refused(tmp_path, ROWS, mapping)
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("before", "after", "columns", "words"),
    [
        ("layer1,3,natural", "layer1,3.5,natural", {}, ["row 2", "'unit' (for index) is '3.5'", "no whole number"]),
        ("layer1,3,natural", "layer1,-3,natural", {}, ["row 2", "'unit'", "counted from 0"]),
        ("ann,layer1", "ann,a/b", {}, ["row 2", "'layer' is 'a/b'", "replace"]),
        ("ann,layer1", ",layer1", {}, ["row 2", "'who' (for observer) is empty", "needed"]),
        ("max,max,1.5", "most,max,1.5", {}, ["row 2", "'chosen' (for choice) is 'most'", "max, min"]),
        (",1.5,", ",soon,", {"rt_ms": '"rt"'}, ["row 2", "'rt' (for rt_ms) is 'soon'", "no number"]),
        (",1.5,", ",-1.5,", {"rt_ms": '"rt"'}, ["row 2", "not negative"]),
        (",1.5,", ",soon,", {"rt_ms": '{ column = "rt", scale = 9 }'}, ["row 2", "'soon'", "no number"]),
        ("1.5,80", "1.5,80", {"confidence": '"sure"'}, ["row 2", "'80'", "1, 2 or 3"]),
        ("", "", {"index": "{ column = \"layer\", pattern = 'conv(.)' }"}, ["row 2", "does not match the pattern"]),
        ("", "", {"difficulty": '{ value = "esy" }'}, ["4 of 4 rows", "'easy'"]),
        ("", "", {"trial_index": '{ value = 1 }'}, ["row 3", "an earlier row of the session has the same"]),
        ("", "", {"response_id": '"who"'}, ["row 3: 'response_id' is 'ann'", "an earlier row"]),
        ("", "", {"references": '"kind"'}, ["row 2", "both, max, min, none"]),
    ],
)  # fmt: skip
def test_a_row_that_breaks_is_named_with_its_column_and_reason(
    before: str, after: str, columns: dict[str, str], words: list[str], tmp_path: Path
) -> None:
    message = refused(tmp_path, ROWS.replace(before, after, 1), plain(**columns))
    for word in words:
        assert word in message, message


def test_a_cause_of_many_rows_is_one_line_with_three_examples(tmp_path: Path) -> None:
    rows = ROWS.splitlines()[0] + "\n" + "ann,l,1,natural,most,max,1,1\n" * 25
    message = refused(tmp_path, rows, PLAIN)
    assert "25 of 25 rows" in message and "\n  25 rows: " in message and message.count("… and 22 more") == 1, message
    assert message.count("\n") == 1 and all(f"row {row} (" in message for row in (2, 3, 4)), message
    assert "row 5" not in message


def test_files_that_are_not_there_or_no_tables_are_refused(tmp_path: Path) -> None:
    mapping = write(tmp_path, "m.toml", PLAIN)
    for given in (tmp_path / "nothing.csv", tmp_path / "*.tsv"):
        with pytest.raises(ImportFailure, match=r"no file|matches"):
            import_csv(given, mapping)
    with pytest.raises(ImportFailure, match="no rows"):
        import_csv(write(tmp_path, "a.csv", "who,layer\n"), mapping)
    with pytest.raises(ImportFailure, match="no header"):
        import_csv(write(tmp_path, "b.csv", ""), mapping)
    with pytest.raises(ImportFailure, match="can't be read as a table"):
        import_csv(write(tmp_path, "c.csv", ROWS + "a,b,c,d,e,f,g,h,i,j\n"), mapping)
    with pytest.raises(ImportFailure, match="neither JSON"):
        import_csv(write(tmp_path, "d.json", "{"), mapping)
    with pytest.raises(ImportFailure, match="pickle"):
        import_csv(write(tmp_path, "e.pkl", ""), mapping)


def test_answers_to_a_study_that_was_exported_for_jspsych_come_back_with_their_key(tmp_path: Path) -> None:
    key = """slot,trial,block,right,name,session,trial_index,kind,model,layer,basis,index,aggregator,condition,difficulty,task,references,query_top,label_overlap
0001,aa,practice,upper,s/00,s,0,practice,planted,colour,neuron,3,mean,natural,easy,0,both,max,
0001,bb,trials,lower,s/01,s,1,catch,planted,colour,neuron,2,mean,natural,easy,1,both,min,
0001,cc,trials,lower,s/02,s,2,main,resnet50,layer1.0.conv1,neuron,62,mean,natural,hard,4,none,min,
"""  # noqa: E501
    write(tmp_path, "key.csv", key)
    write(tmp_path, "map.toml", (ROOT / "docs" / "examples" / "jspsych_export.toml").read_text())
    (tmp_path / "answers").mkdir()
    for person, positions in (("p1", ["upper", "lower", "lower"]), ("p2", ["upper", "lower", "upper"])):
        trials = [
            {"task": "choice", "slot": "0001", "trial": trial, "block": "trials", "position": position, "confidence": 2,
             "rt": 1500, "response": 1}
            for trial, position in zip(("aa", "bb", "cc"), positions)
        ]  # fmt: skip
        pages = [{"trial_type": "preload", "success": True}, *trials]
        write(tmp_path / "answers", f"{person}.json", json.dumps(pages))
    dataset = import_csv(tmp_path / "answers", tmp_path / "map.toml")
    answers = dataset.responses
    assert answers["kind"].tolist() == ["practice", "catch", "main"] * 2
    assert answers["correct"].tolist() == [True, True, True, True, True, False]
    main = answers[answers["kind"] == "main"]
    assert main[["model", "difficulty", "references", "task"]].drop_duplicates().to_numpy().tolist() == [
        ["resnet50", "hard", "none", 4]
    ]
    assert answers["observer"].unique().tolist() == ["p1", "p2"]
    assert "2 rows left out: pages that are no trials" in dataset.notes


def test_an_ablation_with_one_or_nine_references_of_one_or_both_sides(tmp_path: Path) -> None:
    rows = """,subject,n,mode,grid,patches,layer,channel,order,correct,conf,response
0,1,0,optimized,max_max,1,layer_6,channel_0,max_min,True,-2,a
1,1,1,natural,min_max,9,layer_0,channel_0,min_max,False,-1,a
2,2,0,natural,max_max,9,layer_0,channel_0,min_max,True,3,b
"""
    mapping = """
name = "ablation"
protocol = "ablation"
[columns]
observer = "subject"
trial_index = "n"
model = { value = "googlenet" }
layer = "layer"
index = { column = "channel", pattern = 'channel_(\\d+)' }
references = { column = "grid", values = { max_max = "max", min_max = "both" } }
condition = [
  { template = "{mode}-{patches}", where = { patches = 1 }, replace = { optimized = "synthetic" } },
  { column = "mode", values = { optimized = "synthetic", natural = "natural" } },
]
query_top = { column = "order", pattern = '^[a-z]+' }
position = { column = "response", values = { a = "upper", b = "lower" } }
correct = "correct"
confidence = { column = "conf", absolute = true }
"""
    answers = read(tmp_path, rows, mapping).responses
    assert answers["condition"].tolist() == ["synthetic-1", "natural", "natural"]
    assert answers["references"].tolist() == ["max", "both", "max"]
    assert answers["confidence"].tolist() == [2, 1, 3]

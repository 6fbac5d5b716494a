"""An import gets each row right, or names the row and the reason, or says what it assumed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from analysis import compare_groups, describe, estimate_proportions, judgements
from analysis.dataset import Dataset, read_dataset, split_conditions
from analysis.importing.cells import plain_number, to_numbers
from analysis.importing.tables import import_csv
from analysis.mixed_model import MixedModel
from analysis.reliability import estimate_reliability
from benchmark.errors import AnalysisError, DocumentError, ImportFailure
from tests.experiment_two import PUBLISHED, experiment_two

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"

BASE = """
name = "t"
protocol = "t"
positions = "unknown"
{top}
[columns]
observer = "participant"
model = {{ value = "resnet50" }}
layer = {{ value = "layer1" }}
index = "unit"
condition = {{ value = "natural" }}
{columns}
"""


def mapping(folder: Path, top: str = "", columns: str = 'correct = "correct"\nrt_ms = "rt"', **changed: str) -> Path:
    path = folder / "map" / "m.toml"
    path.parent.mkdir(exist_ok=True)
    text = BASE.format(top=top, columns=columns)
    for name, rule in changed.items():
        lines = [f"{name} = {rule}" if line.startswith(f"{name} = ") else line for line in text.splitlines()]
        text = "\n".join(lines)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def read(folder: Path, rows: str | bytes, name: str = "a.csv", **given: str) -> Dataset:
    path = folder / name
    path.write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    return import_csv(path, mapping(folder, **given))


def refused(folder: Path, rows: str | bytes, name: str = "a.csv", **given: str) -> str:
    with pytest.raises((ImportFailure, DocumentError)) as caught:
        read(folder, rows, name, **given)
    return str(caught.value)


PLAIN = "participant,unit,correct,rt\nA,1,true,500\nA,2,false,612\nB,1,true,433\nB,2,true,450\n"


# ---------------------------------------------------------------- answers that are compared


@pytest.mark.parametrize(
    ("answers", "targets", "right"),
    [
        ("fffff", "fjfjf", 3),  # a column of f alone is no column of truth values
        ("10121", "10100", 3),  # a third key makes numbers of both
        (["1.0", "2", "03"], ["1", "2.0", "3"], 3),
        (["true", "No", "1"], ["yes", "0", "T"], 3),
        (["9007199254740993"], ["9007199254740992"], 0),  # floats could not tell them apart
        (["Left", "right"], ["left", "LEFT"], 1),
        (["1", "x"], ["1.0", "x"], 1),  # text, once one cell is no number
    ],
)
def test_answers_are_compared_after_one_decision_on_what_both_columns_are(
    answers: list[str], targets: list[str], right: int, tmp_path: Path
) -> None:
    rows = "".join(f"A,{n},{a},{b}\n" for n, (a, b) in enumerate(zip(answers, targets)))
    found = read(tmp_path, "participant,unit,resp,target\n" + rows, columns='answer = "resp"\nright_answer = "target"')
    assert int(found.responses["correct"].sum()) == right


COMPARED = 'answer = "resp"\nright_answer = "target"'


def compared(answers: list[str], targets: list[str], repeat: int) -> str:
    pairs = list(zip(answers, targets)) * repeat
    return "participant,unit,resp,target\n" + "".join(f"A,{n},{a},{b}\n" for n, (a, b) in enumerate(pairs))


@pytest.mark.parametrize(
    ("answers", "targets"),
    [
        (["ArrowLeft", "ArrowRight"], ["left", "right"]),
        (["['f']", "['j']"], ["f", "j"]),
        (["f", "j"], ["left", "right"]),
        (["3", "4"], ["1", "2"]),
    ],
)
def test_answers_that_have_nothing_in_common_with_the_right_ones_are_refused(
    answers: list[str], targets: list[str], tmp_path: Path
) -> None:
    message = refused(tmp_path, compared(answers, targets, 10), columns=COMPARED)
    assert "no value in common" in message and answers[0].casefold() in message and "values = {" in message
    few = read(tmp_path, compared(answers, targets, 9), columns=COMPARED)
    assert any("no value in common" in note for note in few.notes)


def test_answers_counted_from_nought_beside_right_ones_counted_from_one_are_said(tmp_path: Path) -> None:
    found = read(tmp_path, compared(["0", "1", "1"], ["1", "2", "1"], 10), columns=COMPARED)
    assert any("has '0', which is never right" in note and "'2', which nobody" in note for note in found.notes)
    third = read(tmp_path, compared(["f", "j", "k"], ["f", "f", "j"], 10), columns=COMPARED)
    assert not any("never right" in note for note in third.notes)


def test_links_to_nothing_and_folders_with_tables_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    (folder / "lab2").mkdir(parents=True)
    (folder / "a.csv").write_text(PLAIN)
    (folder / "lab2" / "b.csv").write_text(PLAIN.replace("A,", "C,").replace("B,", "D,"))
    (folder / "lab2" / "up").symlink_to("..")
    (folder / "c.csv").symlink_to("gone.csv")
    notes = import_csv(folder, mapping(tmp_path)).notes
    assert any("lead to no file" in note and "c.csv" in note for note in notes)
    assert any("lab2" in note and "pattern" in note for note in notes)


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ('"unit","participant","correct","rt"\n"1",1,1,1,500\n"2",1,0,0,600\n', ["row 2 has 5 cells", "write.table"]),
        ('"participant" "unit" "correct" "rt"\n"1" "A" 1 1 500\n"2" "A" 2 0 600\n', ["row 2 has 5", "write.table"]),
        ("participant,unit,rt,correct\nA,1,0,1,true\nA,2,1,0,true\nB,3,0,1,false\n", ["row 2", "decimal commas"]),
        (PLAIN + "B,3,true,450,late\n", ["row 6 has 5 cells, the header 4", "1 of 5 rows"]),
        ("participant,unit,correct,rt,rt\nA,1,true,500,1\n", ["columns 4 and 5", "both called 'rt'"]),
        ("participant,unit,correct, rt ,rt\nA,1,true,500,1\n", ["both called 'rt'"]),
        ('participant,unit,correct,rt\nA,1,true,"500\nA,2,false,600\nA,3,true,"700\n', ["row 2", "never closed"]),
    ],
)
def test_rows_that_do_not_fit_the_header_are_refused_with_layout_and_remedy(
    rows: str, words: list[str], tmp_path: Path
) -> None:
    message = refused(tmp_path, rows)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "rows",
    [
        PLAIN.replace("\n", ",\n").replace("rt,", "rt", 1),  # separators at the end of rows
        PLAIN.replace("\n", ",,,\n"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        '"sep=;"\r\n' + PLAIN.replace(",", ";").replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-32"),
        gzip.compress(PLAIN.encode(), mtime=0),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", " "),
        PLAIN.replace("A,2", "\nA,2"),
        PLAIN.replace("B,1", "participant,unit,correct,rt\nB,1"),  # two files joined, header and all
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_files_that_say_the_same_in_other_layouts_give_the_same_answers(rows: str | bytes, tmp_path: Path) -> None:
    found = read(tmp_path, rows).responses
    assert found["observer"].tolist() == ["A", "A", "B", "B"] and found["rt_ms"].tolist() == [500, 612, 433, 450]


def test_a_random_table_comes_in_whole_in_any_layout_and_a_cell_too_many_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for case in range(12):
        count = int(rng.integers(3, 12))
        truth = pd.DataFrame(
            {
                "participant": [f"P{k:02}" for k in rng.integers(0, 4, count)],
                "unit": rng.integers(0, 500, count),
                "correct": rng.random(count) < 0.7,
                "rt": rng.integers(200, 9000, count) / 4,
                "note": rng.choice(["", "a, b; c", 'say "x"', "two\nlines", "ä"], count),
            }
        )
        order = rng.permutation(list(truth.columns)).tolist()
        separator, decimal = [(",", "."), (";", ","), ("\t", "."), ("|", ".")][case % 4]
        frame = truth.assign(correct=truth["correct"].map({True: "TRUE", False: "no"}))[order]
        text = frame.to_csv(index=False, sep=separator, decimal=decimal, lineterminator=["\n", "\r\n"][case % 2])
        encoding = ["utf-8", "utf-8-sig", "utf-16", "latin-1"][int(rng.integers(4))]
        file = f'[file]\ndecimal = "{decimal}"\nencoding = "{encoding}"'
        found = read(tmp_path, text.encode(encoding), top=f'pooled = ["note"]\n{file}').responses
        assert found["observer"].tolist() == truth["participant"].tolist()
        assert found["index"].tolist() == truth["unit"].tolist()
        assert found["correct"].tolist() == truth["correct"].tolist()
        assert found["rt_ms"].tolist() == truth["rt"].tolist()
        broken = text.rstrip("\r\n") + f"{separator}x\n"
        message = refused(tmp_path, broken.encode(encoding), top=f'pooled = ["note"]\n{file}')
        assert f"row {count + 1} has 6 cells" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04xl/", ["workbook of Excel", "CSV"]),
        (b"\xd0\xcf\x11\xe0\xa1", ["workbook of Excel"]),
        (b"", ["is empty", "no header"]),
        (b"\xef\xbb\xbf", ["is empty"]),
        (PLAIN.encode("utf-16-le"), ["zero bytes", "utf-16"]),
        ("Pärt".join(["participant,unit,correct,rt\n", ",1,1,1\n"]).encode("latin-1"), ["latin-1"]),
        (b"participant,unit,correct,rt\n", ["no rows"]),
    ],
)
def test_what_is_no_text_is_named_with_what_to_do(content: bytes, words: list[str], tmp_path: Path) -> None:
    message = refused(tmp_path, content)
    assert all(word in message for word in words), message


def test_a_parquet_file_that_is_called_csv_is_read_as_what_it_is(tmp_path: Path) -> None:
    table = pa.table({"participant": ["A", "B"], "unit": [1, 2], "correct": [True, False], "rt": [500.0, None]})
    parquet.write_table(table, tmp_path / "x.csv")
    assert import_csv(tmp_path / "x.csv", mapping(tmp_path)).responses["correct"].tolist() == [True, False]


def test_short_rows_files_without_rows_and_files_of_another_kind_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a.csv").write_text(PLAIN + "C,1,true\n")
    (folder / "b.csv").write_bytes(b"\xef\xbb\xbf")
    (folder / "c.csv").write_text("participant,unit,correct,rt\n")
    (folder / "d.csv").write_text("unit,correct,participant\n4,true,D\n")
    (folder / "d.xlsx").write_bytes(b"PK")
    found = import_csv(folder, mapping(tmp_path))
    said = " / ".join(found.notes)
    assert len(found.responses) == 6 and found.responses["rt_ms"].isna().sum() == 2
    for words in (
        "1 rows of a.csv end before the last column", "2 files without rows are left out: b.csv, c.csv",
        "1 files have no column 'rt'", "1 .xlsx",
    ):  # fmt: skip
        assert words in said, said


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("cells", "decimal", "thousands", "wanted"),
    [
        (["1,5", "0,25"], ",", "", [1.5, 0.25]),
        (["1.5", "0,25"], ",", "", [None, 0.25]),  # a point where commas are decimal marks
        (["1.234,5", "1.234.567"], ",", ".", [1234.5, 1234567]),
        (["1.5", "12.34"], ",", ".", [None, None]),  # no groups of three digits
        (["1,234.5", "0.123,4"], ".", ",", [1234.5, None]),
    ],
)
def test_numbers_are_read_as_the_file_spells_them_or_not_at_all(
    cells: list[str], decimal: str, thousands: str, wanted: list[float | None]
) -> None:
    numbers, wrong = to_numbers(pd.Series(cells, dtype="str"), decimal, thousands)
    assert [None if bad else number for number, bad in zip(numbers, wrong)] == wanted


def test_whole_numbers_are_spelled_plainly_without_passing_through_floats() -> None:
    wanted = {"01": "1", "1.0": "1", "-0": "0", "2.50": "2.5", "9007199254740993": "9007199254740993", "x1": "x1"}
    assert {cell: plain_number(cell) for cell in wanted} == wanted


def test_identifiers_beside_a_missing_one_stay_exact_and_rounded_ones_are_refused(tmp_path: Path) -> None:
    ids = [9007199254740992, 9007199254740993, None]
    columns: dict[str, Any] = {"unit": [1, 2, 3], "correct": [True, False, True], "rt": [500.0, 600.0, 550.0]}
    parquet.write_table(pa.table({"participant": ids, **columns}), tmp_path / "x.parquet")
    with pytest.raises(ImportFailure, match="1 of 3 rows") as caught:
        import_csv(tmp_path / "x.parquet", mapping(tmp_path))
    assert "row 3: 'participant' (for observer) is empty" in str(caught.value)
    parquet.write_table(pa.table({"participant": [*ids[:2], 7], **columns}), tmp_path / "x.parquet")
    found = import_csv(tmp_path / "x.parquet", mapping(tmp_path)).responses
    assert found["observer"].tolist() == ["9007199254740992", "9007199254740993", "7"]
    empty = {name: [*values[:2], None] for name, values in columns.items()}
    parquet.write_table(pa.table({"participant": ids, **empty}), tmp_path / "x.parquet")
    kept = import_csv(tmp_path / "x.parquet", mapping(tmp_path))  # a wholly empty row is no row
    assert kept.responses["observer"].tolist() == ["9007199254740992", "9007199254740993"]
    assert any("1 rows of x.parquet are wholly empty" in note for note in kept.notes)
    floats = pa.array([9007199254740992.0, 5.0, 6.0])
    parquet.write_table(pa.table({"participant": floats, **columns}), tmp_path / "x.parquet")
    with pytest.raises(ImportFailure, match="a program has rounded the number"):
        import_csv(tmp_path / "x.parquet", mapping(tmp_path))
    assert "rounded the number" in refused(tmp_path, PLAIN.replace("A,", "9.00720E+15,"))


# ---------------------------------------------------------------- names of people and sessions


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("007", "7", "'7'; another row has '007'"),
        ("MAR5", "5-Mar", "a spreadsheet seems to have made a date"),
        ("A", "None", "so programs spell a missing value"),
        ("A", "#N/A", "so programs spell a missing value"),
        ("A", "NA", "is empty; it is needed"),
    ],
)
def test_names_that_programs_have_changed_are_named(first: str, second: str, words: str, tmp_path: Path) -> None:
    message = refused(tmp_path, PLAIN.replace("A,", f"{first},").replace("B,", f"{second},"))
    assert words in message.replace("is '7'", "'7'"), message


def test_names_that_differ_in_decimals_are_one_and_those_that_differ_in_case_are_said_to_be_two(tmp_path: Path) -> None:
    found = read(tmp_path, PLAIN.replace("A,", "1.0,").replace("B,", "1,"))
    assert set(found.responses["observer"]) == {"1"} and any("1.0 are read as 1" in note for note in found.notes)
    found = read(tmp_path, PLAIN.replace("B,", "a,"))
    assert any("'A' and 'a' differ only in case" in note for note in found.notes)


def test_a_session_of_two_people_is_named_by_its_observer_too_and_that_is_said(tmp_path: Path) -> None:
    rows = PLAIN.replace("unit", "session,unit", 1).replace("A,", "A,001,").replace("B,", "B,001,")
    found = read(tmp_path, rows, columns='correct = "correct"\nrt_ms = "rt"\nsession = "session"')
    assert found.responses["session"].unique().tolist() == ["A/001", "B/001"]
    assert found.sessions["observer"].tolist() == ["A", "B"]
    assert any("1 sessions have several observers" in note for note in found.notes)


def test_a_template_that_makes_one_name_of_two_is_refused(tmp_path: Path) -> None:
    rows = "lab,who,unit,correct,rt\n1,11,1,true,500\n11,1,1,false,612\n"
    assert "gives '111' for ('1', '11') and ('11', '1')" in refused(tmp_path, rows, observer='"{lab}{who}"')


def test_only_known_endings_are_cut_from_the_names_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    (folder / "x").mkdir(parents=True)
    names = ["P_2024-05-12_14h23.45.123.csv", "P_2024-05-12_14h23.51.907.csv.gz", "x/S.9.tsv", "x/S.10.txt"]
    for number, name in enumerate(names):
        content = f"unit,correct,rt\n1,1,{500 + number}\n2,0,{600 + number}\n".encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    given = mapping(tmp_path, '[file]\nname = "person"', observer='"person"')
    found = import_csv([folder, folder / "x"], given).responses["observer"].unique().tolist()
    assert found == ["P_2024-05-12_14h23.45.123", "P_2024-05-12_14h23.51.907", "S.10", "S.9"]
    for name in ("ann", "ben"):  # the same name in two folders names nobody
        (folder / name).mkdir()
        (folder / name / "data.csv").write_text(f"unit,correct,rt\n1,1,{len(name)}71\n2,0,{ord(name[0])}3\n")
    text = given.read_text().replace('name = "person"', 'name = "person"\npattern = "*/data.csv"')
    given.write_text(text)
    assert import_csv(folder, given).responses["observer"].unique().tolist() == ["ann/data", "ben/data"]


# ---------------------------------------------------------------- answers that count once


def test_copies_of_files_and_files_that_others_were_joined_to_are_refused(tmp_path: Path) -> None:
    folder, header = tmp_path / "raw", "participant,unit,correct,rt\n"
    folder.mkdir()
    (folder / "a.csv").write_text(header + "A,1,true,500\nA,2,false,612\n")
    (folder / "b.csv").write_text(header + "B,1,true,433\nB,2,true,450\n")
    given = mapping(tmp_path)
    assert len(import_csv(folder, given).responses) == 4
    for name, text, words in (
        ("a (1).csv", (folder / "a.csv").read_text(), "are identical"),
        ("copy.csv", (folder / "a.csv").read_text().replace("\n", "\r\n"), "2 of 2 answers"),
        ("all.csv", PLAIN, "2 of 2 answers in"),
        ("later.csv", header + "C,1,true,501\nA,1,true,500\n", "1 of 2 answers"),
    ):
        (folder / name).write_text(text, newline="")
        with pytest.raises(ImportFailure) as caught:
            import_csv(folder, given)
        assert words in str(caught.value), str(caught.value)
        (folder / name).unlink()
    with pytest.raises(ImportFailure, match="given twice"):
        import_csv([folder, folder / "a.csv"], given)
    rows = "".join(f"A,{n},true,{500 + 7 * n}\n" for n in range(6))
    assert "6 rows repeat another row" in refused(tmp_path, header + rows + rows)


def test_seconds_that_are_called_milliseconds_are_an_error_in_every_reader(tmp_path: Path) -> None:
    rows = "".join(f"A,{number},true,{500 + number}\n" for number in range(20))
    answers = read(tmp_path, "participant,unit,correct,rt\n" + rows).responses
    seconds = answers.assign(rt_ms=answers["rt_ms"] / 1000)
    seconds.to_parquet(tmp_path / "r.parquet")
    with pytest.raises(ImportFailure, match="seem to be seconds"):
        read_dataset(tmp_path / "r.parquet")
    seconds.iloc[:9].to_parquet(tmp_path / "r.parquet")
    assert any("seem to be seconds" in note for note in read_dataset(tmp_path / "r.parquet").notes)
    answers.to_parquet(tmp_path / "r.parquet")
    assert not any("seconds" in note for note in read_dataset(tmp_path / "r.parquet").notes)


def test_the_same_answer_twice_is_an_error_in_every_reader(tmp_path: Path) -> None:
    found = read(tmp_path, PLAIN)
    answers = found.responses
    twice = pd.concat([answers, answers.iloc[[1]]], ignore_index=True)
    shared = answers.assign(session="001")
    renamed = pd.concat([answers, answers.assign(response_id=answers["response_id"] + "x")], ignore_index=True)
    faults = (
        (twice, "appear twice"),
        (renamed, rf"{len(answers)} of {len(renamed)} answers repeat another in all but response_id"),
        (shared, "the session '001' has several values of observer"),
    )
    for wrong, words in faults:
        wrong.to_csv(tmp_path / "r.csv", index=False)
        wrong.to_parquet(tmp_path / "r.parquet")
        for name in ("r.csv", "r.parquet"):
            with pytest.raises(ImportFailure, match=words):
                read_dataset(tmp_path / name)
    found.write(tmp_path / "out")
    twice.to_parquet(tmp_path / "out" / "responses.parquet")
    with pytest.raises(ImportFailure, match="appear twice"):
        read_dataset(tmp_path / "out")


def test_a_record_of_json_names_every_value_once(tmp_path: Path) -> None:
    row = '{"participant": "A", "unit": 1, "correct": true, "rt": 500, "rt": 7}'
    assert "two values called 'rt'" in refused(tmp_path, f"[{row}]", "a.json")
    row = json.dumps({"participant": "A", "unit": 1, "correct": True, "a.b": 1, "a": {"b": 2}, "rt": 5})
    assert "two values called 'a.b'" in refused(tmp_path, f"[{row}]", "a.json")


def test_a_row_counts_once_however_much_is_wrong_with_it(tmp_path: Path) -> None:
    message = refused(
        tmp_path, "participant,unit,correct,rt\nA,x,maybe,5\n", observer="{ column = 'participant', pattern = '^P' }"
    )
    assert "1 of 1 rows" in message and message.count("'participant'") == 1


def test_seconds_are_not_taken_for_milliseconds(tmp_path: Path) -> None:
    rows = "".join(f"{'AB'[n % 2]},{n},true,{0.5 + n / 10}\n" for n in range(30))
    message = refused(tmp_path, "participant,unit,correct,rt\n" + rows)
    assert "half of the 30 reaction times are below" in message and "scale = 1000" in message
    few = read(tmp_path, "participant,unit,correct,rt\nA,1,true,1.5\nA,2,true,2.5\n")
    assert any("they seem to be seconds" in note for note in few.notes)


# ---------------------------------------------------------------- columns that vary within a cell


def test_a_column_that_varies_within_a_cell_is_never_pooled_unasked(tmp_path: Path) -> None:
    rows = "participant,unit,correct,rt,shown,layer_number\n" + "".join(
        f"{'ABC'[n % 3]},{n},{'true' if n % 5 else 'false'},{500 + 7 * n},{'one' if n % 2 else 'nine'},4\n"
        for n in range(24)
    )
    message = refused(tmp_path, rows)
    assert "1 column varies within a cell" in message and "'shown' (2 values: nine, one)" in message
    assert 'pooled = ["shown"]' in message and "layer_number" not in message
    pooled = read(tmp_path, rows, top='pooled = ["shown"]')
    assert any(note.startswith("pooled, as the mapping says: 'shown'") for note in pooled.notes)
    both = refused(tmp_path, rows.replace("A,0,", "A,x,"))
    assert "1 of 24 rows" in both and "Besides, 1 column varies" in both
    number = 'references_per_side = { column = "shown", values = { one = 1, nine = 9 } }'
    mapped = read(tmp_path, rows, columns=f'correct = "correct"\nrt_ms = "rt"\n{number}')
    assert set(mapped.responses["references_per_side"]) == {1, 9}
    assert describe(mapped).counts["references_per_side"].tolist() == [1, 9]


# ---------------------------------------------------------------- attributes of people, references a side


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("two")
    experiment_two().to_csv(folder / "experiment_2.csv")
    return import_csv(folder / "experiment_2.csv", EXAMPLES / "borowski2021_experiment_2.toml")


def cells_of(dataset: Dataset) -> dict[tuple[str, str, int], int]:
    main = dataset.responses[dataset.responses["kind"] == "main"]
    counts = main.groupby(["condition", "references", "references_per_side"])["correct"].agg(["size", "sum"])
    assert (counts["size"] == 460).all()
    return {tuple(key): int(value) for key, value in counts["sum"].items()}


WANTED = {
    (
        {"natural": "natural", "optimized": "synthetic"}[kind],
        "both" if mode.startswith("Min") else "max",
        int(mode[-1]),
    ): right
    for (kind, mode), right in PUBLISHED.items()
}


@pytest.mark.parametrize(
    ("spelling", "levels"),
    [
        ("{mode}", ("expert", "lay")),
        ("{type}-{mode}", ("expert", "naive")),
        ("{mode}_refs", ("Expert", "layperson")),
        ("{type} {mode} images", ("EXPERT", "non-expert")),
    ],
)
def test_the_eight_cells_and_two_groups_of_the_second_experiment_come_in(
    spelling: str, levels: tuple[str, str], tmp_path: Path
) -> None:
    experiment_two(spelling, levels, seed=1).to_csv(tmp_path / "e.csv")
    found = import_csv(tmp_path / "e.csv", EXAMPLES / "borowski2021_experiment_2.toml")
    assert cells_of(found) == WANTED
    people = found.responses.drop_duplicates("observer")["person_expertise"].value_counts()
    assert people.to_dict() == {"lay": 13, "expert": 10}


def test_the_mapping_of_the_first_experiment_refuses_the_second(tmp_path: Path) -> None:
    experiment_two().to_csv(tmp_path / "e.csv")
    with pytest.raises(ImportFailure, match="vary within a cell") as caught:
        import_csv(tmp_path / "e.csv", EXAMPLES / "borowski2021.toml")
    assert "'expert_level' (2 values" in str(caught.value) and "'condition_name' (4 values" in str(caught.value)


def test_attributes_and_references_survive_writing_and_reach_every_estimate(two: Dataset, tmp_path: Path) -> None:
    back = read_dataset(two.write(tmp_path / "out"))
    assert back.responses.equals(two.responses)
    two.responses.to_csv(tmp_path / "r.csv", index=False)
    assert read_dataset(tmp_path / "r.csv").responses["person_expertise"].equals(two.responses["person_expertise"])
    table = judgements(two.responses, references=None)
    assert set(table["expertise"].cat.categories) == {"lay", "expert"}
    grouped = estimate_proportions(table, by=("condition", "references", "references_per_side"), mean="answers")
    assert sorted(round(460 * cell.estimate.value) for cell in grouped) == sorted(PUBLISHED.values())
    with pytest.raises(AnalysisError, match="different numbers of references"):
        estimate_proportions(table)
    split = split_conditions(table)
    assert len(estimate_proportions(split)) == 8 and "natural, Min-Max-9" in set(split["condition"])
    assert len(estimate_proportions(table, by=("expertise", "references_per_side"))) == 4
    assert split_conditions(table[(table["references"] == "max") & (table["references_per_side"] == "1")]) is not None


def test_laymen_minus_experts_is_a_difference_with_an_interval(two: Dataset) -> None:
    table = judgements(two.responses, references=None)
    found = compare_groups(table, "expertise", "lay", "expert", mean="answers")
    assert found.size == 8 and not found.left_out
    for own in found:
        condition, sides, number, _ = own.first.split(", ")
        cell = table[
            (table["condition"] == condition)
            & (table["references"] == sides)
            & (table["references_per_side"] == number)
        ]
        seen = cell.groupby("unit", observed=True)["expertise"].transform("nunique") == 2
        means = cell[seen].groupby("expertise", observed=True)["correct"].mean()
        assert own.difference.value == pytest.approx(means["lay"] - means["expert"], abs=1e-12)
        assert own.difference.low < own.difference.value < own.difference.high and 0 < own.p <= 1
    overall = compare_groups(table, "expertise", "lay", "expert", within=())
    assert overall.size == 1 and overall.family == "lay minus expert"
    with pytest.raises(AnalysisError, match=r"expert.*can't be compared"):
        alone = table[(table["expertise"] == "expert") | (table["participant"] == "11")]
        compare_groups(alone, "expertise", "lay", "expert")


def test_an_attribute_is_a_factor_of_the_mixed_model(two: Dataset) -> None:
    table = judgements(two.responses, references=("max",))
    table = table[table["references_per_side"] == "1"].reset_index(drop=True)
    fit = MixedModel.from_formula("correct ~ expertise + condition + (1|unit)").fit(table)
    assert fit.converged and [name for name in fit.fixed if "expertise" in name]


def test_two_values_of_one_attribute_are_named(tmp_path: Path) -> None:
    rows = PLAIN.replace("rt\n", "rt,lab\n").replace("500\n", "500,x\n").replace("612\n", "612,y\n")
    rows = rows.replace("433\n", "433,x\n").replace("450\n", "450,\n")
    given = {"columns": 'correct = "correct"\nrt_ms = "rt"\n[people]\nlaboratory = "lab"'}
    assert "an earlier row of the same observer says another laboratory" in refused(tmp_path, rows, **given)
    found = read(tmp_path, rows.replace(",y\n", ",x\n"), **given)
    assert found.responses["person_laboratory"].tolist() == ["x"] * 4
    for name in ("unit", "Lab", "a-b"):
        assert "can't name an attribute" in refused(
            tmp_path, rows, columns=f'correct = "correct"\n[people]\n{name} = "lab"'
        )


# ---------------------------------------------------------------- tables that others have made


def test_tables_of_other_kinds_of_text_and_with_an_index_of_units_work(two: Dataset) -> None:
    plain = judgements(two.responses)
    arrow = two.responses.assign(
        **{name: two.responses[name].astype("string[pyarrow]") for name in ("model", "layer", "choice", "kind")},
        correct=two.responses["correct"].astype(str).astype("string"),
    )
    arrow.index = pd.Index(np.arange(len(arrow)), name="unit")
    assert judgements(arrow).equals(plain)
    with pytest.raises(AnalysisError, match="no column 'choice'"):
        judgements(two.responses.drop(columns="choice"))
    with pytest.raises(AnalysisError, match=r"'correct' of the responses is 'maybe' in row 0"):
        judgements(two.responses.assign(correct="maybe"))
    numbers = plain[plain["references_per_side"] == "9"].assign(unit=lambda own: own["unit"].cat.codes)
    numbers.index = pd.Index(np.arange(len(numbers)), name="unit")
    found = estimate_reliability(numbers, splits=5, resamples=50)
    assert {own.condition for own in found} == {"natural", "synthetic"}


def test_one_number_in_two_spellings_is_no_two_people(tmp_path: Path) -> None:
    """A hexadecimal name such as 1e5 is a name of its own, as long as nobody is called 100000."""
    both = PLAIN.replace("A,1", "1e5,1").replace("A,2", "100000,2")
    assert "another row has '100000', which is the same number" in refused(tmp_path, both)
    alone = read(tmp_path, PLAIN.replace("A,", "1e5,"), "b.csv")
    assert alone.responses["observer"].nunique() == 2


def test_a_quotation_mark_that_never_closes_is_named_with_its_line(tmp_path: Path) -> None:
    said = refused(tmp_path, PLAIN.replace("A,2", 'A,"2'))
    assert "line 3: a quotation mark opens a text that no other closes" in said and "tokenizing" not in said
    assert 'quote = ""' in said

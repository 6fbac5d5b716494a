"""Tables hold what their schema says; a table that does not is refused by column, row and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark import schemas
from benchmark.errors import StudyError
from benchmark.hashing import hash_rows
from benchmark.schemas import Column, Schema, concatenate

ALL = [schemas.POOL, schemas.UNITS, schemas.UNIT_STATISTICS, schemas.STIMULI, schemas.TRIALS, schemas.RESPONSES]

SMALL = Schema(
    "animals",
    (
        Column("name", "string", "what it is called"),
        Column("legs", "integer", "how many legs it has"),
        Column("weight", "number", "in kilograms", nullable=True),
        Column("tame", "boolean", "whether it is tame", nullable=True),
        Column("size", "string", "how large it is", values=("small", "large")),
        Column("parents", "strings", "names of its parents", nullable=True),
    ),
)


def animals(**changes: Any) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "name": ["ant", "bee"],
        "legs": [6, 6],
        "weight": [0.5, None],
        "tame": [None, True],
        "size": ["small", "large"],
        "parents": [["a", "b"], []],
    }
    return pd.DataFrame({**columns, **changes})


def test_columns_come_in_the_order_of_the_schema_with_its_kinds_whatever_came_in() -> None:
    mixed = animals(legs=["6", "6"]).sample(frac=1, random_state=1)[
        ["size", "legs", "weight", "tame", "parents", "name"]
    ]
    result = SMALL.conform(mixed)
    assert list(result.columns) == SMALL.names
    assert result["legs"].dtype == "int64"
    assert result["weight"].dtype == "float64"
    assert list(result.index) == [0, 1]


def test_a_table_of_the_right_kinds_is_checked_and_returned_as_one_of_its_own() -> None:
    first = SMALL.conform(animals())
    again = SMALL.conform(first)
    pd.testing.assert_frame_equal(again, first)
    again.loc[0, "name"], again.loc[0, "legs"] = "wasp", 4
    assert first["name"].tolist() == ["ant", "bee"] and first["legs"].tolist() == [6, 6]
    with pytest.raises(StudyError, match="'size' is 'huge' in row 1"):
        SMALL.conform(first.assign(size=first["size"].replace("large", "huge")))
    with pytest.raises(StudyError, match="'name' is empty in row 1"):
        SMALL.conform(first.assign(name=first["name"].where([True, False])))


def test_a_nullable_column_may_be_left_out() -> None:
    result = SMALL.conform(animals().drop(columns=["weight", "tame", "parents"]))
    assert result[["weight", "tame", "parents"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.assign(wieght=1.0), ["animals", "'wieght'", "Did you mean 'weight'"]),
        (lambda table: table.drop(columns="legs"), ["animals", "'legs'", "missing", "how many legs"]),
        (lambda table: table.assign(name=["ant", None]), ["animals", "'name'", "empty", "row 1"]),
        (lambda table: table.assign(size=["small", "huge"]), ["'size'", "'huge'", "row 1", "small, large"]),
        (lambda table: table.assign(legs=["six", "6"]), ["'legs'", "integer", "six"]),
        (lambda table: table.assign(weight=["heavy", "1"]), ["'weight'", "number", "heavy"]),
    ],
)
def test_a_table_that_breaks_the_schema_is_refused_with_column_row_and_reason(change: Any, words: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        SMALL.conform(change(animals()))
    for word in words:
        assert word in str(caught.value)


def test_a_whole_number_column_refuses_fractions() -> None:
    with pytest.raises(StudyError, match="legs"):
        SMALL.conform(animals(legs=[6.5, 6.0]))


@pytest.mark.parametrize("wrong", [["no", "yes"], [2, 1]])
def test_a_column_of_truth_values_refuses_what_only_looks_true(wrong: list[Any]) -> None:
    required = Schema("answers", (Column("correct", "boolean", "whether it is right"),))
    with pytest.raises(StudyError, match="correct"):
        required.conform(pd.DataFrame({"correct": wrong}))
    assert required.conform(pd.DataFrame({"correct": [1, 0]}))["correct"].tolist() == [True, False]


def test_a_table_comes_back_from_its_file_as_it_went_in(tmp_path: Path) -> None:
    path = tmp_path / "below" / "animals.parquet"
    SMALL.write(animals(), path)
    back = SMALL.read(path)
    assert hash_rows(back) == hash_rows(SMALL.conform(animals()))
    assert list(back["parents"][0]) == ["a", "b"]
    assert back["tame"].tolist() == [pd.NA, True]


def test_a_table_that_breaks_the_schema_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "animals.parquet"
    SMALL.write(animals(), path)
    before = path.read_bytes()
    with pytest.raises(StudyError):
        SMALL.write(animals(size=["small", "huge"]), path)
    assert path.read_bytes() == before


def test_a_missing_file_a_broken_file_and_a_stranger_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "animals.parquet"
    with pytest.raises(StudyError, match=r"no table .*animals\.parquet"):
        SMALL.read(path)
    path.write_bytes(b"no table at all")
    with pytest.raises(StudyError, match=r"animals\.parquet is not a readable Parquet file"):
        SMALL.read(path)
    SMALL.write(animals(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StudyError, match=r"animals\.parquet is not a readable Parquet file"):
        SMALL.read(path)
    pd.DataFrame({"other": [1]}).to_parquet(path)
    with pytest.raises(StudyError, match="other"):
        SMALL.read(path)


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
def test_every_schema_has_distinct_columns_each_with_a_meaning(schema: Schema) -> None:
    assert len(set(schema.names)) == len(schema.names)
    assert all(len(column.meaning) > 10 for column in schema.columns)


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
def test_an_empty_table_of_every_schema_can_be_stored(schema: Schema, tmp_path: Path) -> None:
    schema.write(schema.empty(), tmp_path / "empty.parquet")
    back = schema.read(tmp_path / "empty.parquet")
    assert list(back.columns) == schema.names
    assert len(back) == 0


def test_tables_are_joined_in_order_and_none_give_an_empty_one() -> None:
    first, second = SMALL.conform(animals()), SMALL.conform(animals(name=["cat", "dog"], weight=[None, None]))
    joined = concatenate([first, SMALL.empty(), second], SMALL)
    assert joined["name"].tolist() == ["ant", "bee", "cat", "dog"]
    assert np.isnan(joined["weight"].to_numpy()[1:]).all()
    assert len(concatenate([], SMALL)) == 0


def test_numbers_keep_every_bit_through_a_file(tmp_path: Path) -> None:
    values = [float(np.nextafter(0.1, 1)), float(np.float32(1) / 3)]
    SMALL.write(animals(weight=values), tmp_path / "t.parquet")
    assert SMALL.read(tmp_path / "t.parquet")["weight"].tolist() == values

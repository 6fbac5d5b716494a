"""Hashes change with every value, and with nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.hashing import (
    LENGTH,
    hash_array,
    hash_bytes,
    hash_pixels,
    hash_rows,
    hash_settings,
    hash_state,
    pack_hashes,
    picture_keys,
    unpack_hashes,
)

scalars = st.none() | st.booleans() | st.integers(-100, 100) | st.floats(allow_nan=False) | st.text(max_size=5)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner), max_leaves=8
)


def turned(value: Any) -> Any:
    """Return a document with the keys of every table in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(list(value))}
    return [turned(item) for item in value] if isinstance(value, list) else value


def small_table(**changes: Any) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "name": ["a", "b", None],
        "count": [1, 2, 3],
        "share": [0.5, np.nan, -1.0],
        "kept": [True, False, True],
        "parts": [["x", "y"], ["z"], []],
    }
    return pd.DataFrame({**columns, **changes})


@settings(deadline=None, max_examples=60)
@given(documents)
def test_the_order_of_keys_does_not_change_the_hash_of_settings(document: Any) -> None:
    assert hash_settings(turned(document)) == hash_settings(document)


@settings(deadline=None, max_examples=60)
@given(documents, documents)
def test_settings_share_a_hash_only_if_they_are_the_same(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (hash_settings(one) == hash_settings(other)) == same


def test_the_order_of_a_list_changes_the_hash_of_settings() -> None:
    assert hash_settings({"models": ["a", "b"]}) != hash_settings({"models": ["b", "a"]})


def test_a_setting_that_is_missing_differs_from_one_that_is_empty() -> None:
    assert len({hash_settings({}), hash_settings({"a": None}), hash_settings({"a": ""}), hash_settings({"a": 0})}) == 4


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_parts_never_run_into_each_other(one: list[bytes], other: list[bytes]) -> None:
    assert (hash_bytes(*one) == hash_bytes(*other)) == (one == other)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 4), st.integers(0, 5), st.integers(0, 2), st.integers(1, 255))
def test_every_pixel_counts(y: int, x: int, channel: int, change: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
    changed = pixels.copy()
    changed[y, x, channel] ^= change
    assert hash_pixels(changed) != hash_pixels(pixels)


def test_the_size_of_a_picture_counts() -> None:
    assert hash_pixels(np.zeros((4, 6, 3), np.uint8)) != hash_pixels(np.zeros((6, 4, 3), np.uint8))


def test_how_pixels_lie_in_memory_does_not_count() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
    assert hash_pixels(np.asfortranarray(pixels)) == hash_pixels(pixels)
    assert hash_pixels(np.repeat(pixels, 2, axis=1)[:, ::2]) == hash_pixels(pixels)


def test_pixels_that_are_not_8_bit_are_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        hash_pixels(np.zeros((4, 4, 3)))  # type: ignore[arg-type]


def test_an_array_is_hashed_by_kind_shape_and_values_whatever_its_byte_order() -> None:
    array = np.arange(6, dtype=np.float32)
    assert hash_array(array.astype(">f4")) == hash_array(array)
    others = [
        array.astype(np.float64),
        array.reshape(2, 3),
        array[::-1],
        np.where(array == 3, np.nextafter(array, 9), array),
    ]
    assert len({hash_array(other) for other in [array, *others]}) == 5


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2),
    st.sampled_from(["name", "count", "share", "kept", "parts"]),
)
def test_every_cell_of_a_table_counts(row: int, column: str) -> None:
    table = small_table()
    other = {"name": "c", "count": 9, "share": 0.25, "kept": not table["kept"][row], "parts": ["x"]}[column]
    values = table[column].tolist()
    values[row] = other
    assert hash_rows(small_table(**{column: values})) != hash_rows(table)


def test_the_order_of_rows_and_the_names_and_order_of_columns_count() -> None:
    table = small_table()
    others = [
        table.iloc[::-1],
        table.rename(columns={"name": "title"}),
        table[["count", "name", "share", "kept", "parts"]],
        table.iloc[:2],
        table.drop(columns="kept"),
    ]
    assert len({hash_rows(other) for other in [table, *others]}) == 6


def test_the_index_of_a_table_does_not_count() -> None:
    table = small_table()
    assert hash_rows(table.set_index(pd.Index([7, 8, 9]))) == hash_rows(table)


def test_all_spellings_of_a_missing_value_are_one() -> None:
    missing = [None, np.nan, pd.NA]
    hashes = {hash_rows(pd.DataFrame({"a": pd.Series(["x", value], dtype="object")})) for value in missing}
    assert len(hashes) == 1
    numbers = [pd.Series([1.5, np.nan]), pd.Series([1.5, None], dtype="Float64")]
    assert len({hash_rows(pd.DataFrame({"a": column})) for column in numbers}) == 1


def test_a_missing_value_differs_from_an_empty_one_and_from_the_word_for_it() -> None:
    cells = [None, "", "None", "nan", "<NA>", "null"]
    assert len({hash_rows(pd.DataFrame({"a": ["x", cell]})) for cell in cells}) == len(cells)


def test_kinds_of_columns_that_mean_the_same_share_a_hash() -> None:
    whole = [pd.Series([1, 2], dtype=kind) for kind in ("int64", "int32", "Int64", "uint8")]
    assert len({hash_rows(pd.DataFrame({"a": column})) for column in whole}) == 1
    words = [pd.Series(["a", "b"], dtype=kind) for kind in ("object", "str", "string")]
    assert len({hash_rows(pd.DataFrame({"a": column})) for column in words}) == 1


def test_minus_zero_is_zero() -> None:
    assert hash_rows(pd.DataFrame({"a": [0.0, 1.0]})) == hash_rows(pd.DataFrame({"a": [-0.0, 1.0]}))


def test_whole_numbers_too_large_for_floating_point_still_count() -> None:
    large = 2**62
    assert hash_rows(pd.DataFrame({"a": [large]})) != hash_rows(pd.DataFrame({"a": [large + 1]}))


def test_lists_and_arrays_in_cells_are_the_same() -> None:
    lists = small_table()
    arrays = small_table(parts=[np.array(part, dtype=object) for part in lists["parts"]])
    assert hash_rows(arrays) == hash_rows(lists)


@pytest.mark.parametrize("compression", ["zstd", "snappy", None])
def test_a_table_has_one_hash_however_it_was_stored(tmp_path: Path, compression: str | None) -> None:
    table = small_table()
    table.to_parquet(tmp_path / "table.parquet", compression=compression, index=False)
    assert hash_rows(pd.read_parquet(tmp_path / "table.parquet")) == hash_rows(table)


def test_weights_are_hashed_by_name_whatever_their_order() -> None:
    state = {"b": torch.ones(2, 3), "a": torch.zeros(4, dtype=torch.int64)}
    hashes = {
        hash_state(state),
        hash_state({"b": torch.ones(3, 2), "a": state["a"]}),
        hash_state({"b": torch.ones(2, 3, dtype=torch.float64), "a": state["a"]}),
        hash_state({"c": state["b"], "a": state["a"]}),
        hash_state({"b": state["b"] * 1.0000001, "a": state["a"]}),
    }
    assert len(hashes) == 5
    assert hash_state(dict(reversed(state.items()))) == hash_state(state)


def test_the_layout_of_weights_in_memory_does_not_count() -> None:
    weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert hash_state({"w": weight.to(memory_format=torch.channels_last)}) == hash_state({"w": weight})


def test_weights_of_half_precision_and_without_dimensions_can_be_hashed() -> None:
    state = {"half": torch.ones(3, dtype=torch.bfloat16), "count": torch.tensor(7), "none": torch.zeros(0)}
    assert hash_state(state) != hash_state({**state, "count": torch.tensor(8)})


@settings(deadline=None, max_examples=20)
@given(st.lists(st.text("0123456789abcdef", min_size=LENGTH, max_size=LENGTH), max_size=5))
def test_packed_hashes_come_back(hashes: list[str]) -> None:
    packed = pack_hashes(hashes)
    assert packed.shape == (len(hashes), LENGTH // 2)
    assert unpack_hashes(packed) == hashes
    assert len(set(picture_keys(hashes).tolist())) == len({name[:16] for name in hashes})

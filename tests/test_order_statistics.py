"""Extremes from a stream are those of a stable sort of everything by (value, tie key)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from benchmark.hashing import hash_bytes, picture_keys
from stimuli.order_statistics import Extremes, ExtremeTracker, TieKeys, content_ties, full_order, place_ties

FEW_VALUES = some.sampled_from([-2.0, -0.0, 0.0, 1.0, 1.0 + 2**-23, 2.0**-140, -(2.0**-140), 3e38])
ANY_VALUES = some.floats(width=32, allow_nan=False, allow_infinity=False)


def picture_names(count: int) -> list[str]:
    return [hash_bytes(str(number).encode()) for number in range(count)]


def ties_of(kind: str, units: int, count: int, seed: int = 1) -> TieKeys:
    if kind == "place":
        return place_ties
    unit_keys = np.random.default_rng(seed).integers(0, 2**64, units, dtype=np.uint64)
    return content_ties(unit_keys, picture_keys(picture_names(count)))


def sorted_by_hand(values: NDArray[np.float32], ties: TieKeys) -> NDArray[np.int64]:
    """Return all places, ascending by (value, tie key), by Python's own sort; shape (units, pictures)."""
    places = list(range(len(values)))
    rows = []
    for unit in range(values.shape[1]):
        keys = ties(np.array([unit]), np.array([places]))[0].tolist()
        rows.append(sorted(places, key=[*zip(values[:, unit].tolist(), keys)].__getitem__))
    return np.array(rows, dtype=np.int64).reshape(values.shape[1], len(places))


def check(low: Extremes, high: Extremes, values: NDArray[np.float32], ties: TieKeys, count: int) -> None:
    order = sorted_by_hand(values, ties)
    assert low.places.dtype == high.places.dtype == np.int32
    assert low.values.dtype == high.values.dtype == np.float32
    assert np.array_equal(low.places, order[:, :count])
    assert np.array_equal(high.places, order[:, ::-1][:, :count])
    for side in (low, high):
        assert np.array_equal(side.values, np.take_along_axis(values.T, side.places.astype(np.int64), axis=1))
        assert not (np.signbit(side.values) & (side.values == 0)).any(), "a negative zero would hash otherwise"


def draw_values(data: some.DataObject) -> NDArray[np.float32]:
    shape = (data.draw(some.integers(1, 40)), data.draw(some.integers(1, 4)))
    elements = data.draw(some.sampled_from([FEW_VALUES, ANY_VALUES, some.just(0.0)]))
    return data.draw(arrays.arrays(np.float32, shape, elements=elements))


KINDS = some.sampled_from(["place", "content"])


@settings(max_examples=200, deadline=None)
@given(data=some.data(), kind=KINDS, count=some.integers(1, 45), buffer=some.integers(1, 50))
def test_extremes_are_those_of_a_stable_sort_for_any_batches_order_and_buffer(
    data: some.DataObject, kind: str, count: int, buffer: int
) -> None:
    values = draw_values(data)
    pictures, units = values.shape
    ties = ties_of(kind, units, pictures)
    tracker = ExtremeTracker(units, count, ties=ties, buffer=buffer)
    coming = data.draw(some.permutations(range(pictures)))
    while coming:
        batch = coming[: data.draw(some.integers(1, len(coming)))]
        tracker.add(torch.from_numpy(values[batch]), batch)
        coming = coming[len(batch) :]
    check(*tracker.result(), values, ties, count)


@settings(max_examples=150, deadline=None)
@given(data=some.data(), kind=KINDS, count=some.integers(1, 15), shards=some.integers(1, 6), in_order=some.booleans())
def test_any_split_into_shards_merged_in_any_order_gives_the_same_extremes(
    data: some.DataObject, kind: str, count: int, shards: int, in_order: bool
) -> None:
    values = draw_values(data)
    pictures, units = values.shape
    ties = ties_of(kind, units, pictures)
    owner = data.draw(arrays.arrays(np.int64, pictures, elements=some.integers(0, shards - 1)))
    whole = ExtremeTracker(units, count, ties=ties)
    for shard in data.draw(some.permutations(range(shards))):
        part = ExtremeTracker(units, count, ties=ties, buffer=data.draw(some.integers(1, 20)))
        members = np.flatnonzero(owner == shard)
        part.add(torch.from_numpy(values[members]), members.tolist())
        whole.add_extremes(*part.result(in_order=in_order))
    check(*whole.result(), values, ties, count)


@settings(max_examples=40, deadline=None)
@given(data=some.data(), kind=KINDS)
def test_pictures_and_finished_shards_may_be_added_in_turns(data: some.DataObject, kind: str) -> None:
    values = draw_values(data)
    pictures, units = values.shape
    ties = ties_of(kind, units, pictures)
    cut = data.draw(some.integers(0, pictures))
    part = ExtremeTracker(units, 3, ties=ties)
    part.add(torch.from_numpy(values[cut:]), range(cut, pictures))
    whole = ExtremeTracker(units, 3, ties=ties)
    whole.add(torch.from_numpy(values[: cut // 2]), range(cut // 2))
    whole.add_extremes(*part.result(in_order=False))
    whole.add(torch.from_numpy(values[cut // 2 : cut]), range(cut // 2, cut))
    check(*whole.result(), values, ties, 3)


@pytest.mark.parametrize("kind", ["place", "content"])
def test_many_units_and_pictures_with_many_ties_are_exact_over_several_merges(kind: str) -> None:
    # More units than one block of the partition (2,048) and of the tie-breaking (4,096), and several buffers.
    generator = np.random.default_rng(0)
    values = np.maximum(np.rint(generator.normal(size=(150, 4500)) * 2), 0).astype(np.float32) / 8
    ties = ties_of(kind, 4500, 150)
    tracker = ExtremeTracker(4500, 20, ties=ties, buffer=37)
    for start in range(0, 150, 16):
        tracker.add(torch.from_numpy(values[start : start + 16]), range(start, min(start + 16, 150)))
    low, high = tracker.result()
    keys = ties(np.arange(4500), np.broadcast_to(np.arange(150), (4500, 150)))
    order = np.lexsort((keys, values.T), axis=-1)
    assert np.array_equal(low.places, order[:, :20])
    assert np.array_equal(high.places, order[:, ::-1][:, :20])


def test_the_result_may_be_asked_for_in_the_middle() -> None:
    values = np.random.default_rng(1).normal(size=(30, 2)).astype(np.float32)
    tracker = ExtremeTracker(2, 4, ties=place_ties, buffer=7)
    tracker.add(torch.from_numpy(values[:11]), range(11))
    check(*tracker.result(), values[:11], place_ties, 4)
    tracker.add(torch.from_numpy(values[11:]), range(11, 30))
    check(*tracker.result(), values, place_ties, 4)


def bytes_of(value: Any) -> int:
    """Return the bytes of everything inside a value: of tensors, the whole storage behind them."""
    if isinstance(value, torch.Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, np.ndarray):
        return int((value if value.base is None else np.asarray(value.base)).nbytes)
    if isinstance(value, dict):
        return sum(bytes_of(item) for item in value.values())
    return sum(bytes_of(item) for item in value) if isinstance(value, list | tuple) else sys.getsizeof(value)


def test_what_is_kept_does_not_grow_with_the_number_of_pictures() -> None:
    def size_after(pictures: int) -> int:
        tracker = ExtremeTracker(50, 8, ties=place_ties, buffer=16)
        generator = np.random.default_rng(2)
        for start in range(0, pictures, 16):
            tracker.add(torch.from_numpy(generator.normal(size=(16, 50)).astype(np.float32)), range(start, start + 16))
        return bytes_of(vars(tracker))

    kept = 50 * 8 * 2 * (4 + 4)
    buffer = 50 * 16 * 4
    assert size_after(64) == size_after(6400)
    assert size_after(6400) <= kept + buffer + 4000


# -------------------------------------------------------------------- the order


@settings(max_examples=100, deadline=None)
@given(data=some.data(), kind=KINDS)
def test_the_full_order_is_the_stable_sort(data: some.DataObject, kind: str) -> None:
    values = draw_values(data)
    ties = ties_of(kind, values.shape[1], len(values))
    expected = sorted_by_hand(values, ties)
    for unit in range(values.shape[1]):
        assert np.array_equal(full_order(values[:, unit], unit, ties), expected[unit])


@settings(max_examples=60, deadline=None)
@given(data=some.data(), count=some.integers(1, 20))
def test_content_ties_do_not_depend_on_where_pictures_lie(data: some.DataObject, count: int) -> None:
    values = draw_values(data)
    pictures, units = values.shape
    unit_keys = np.arange(units, dtype=np.uint64) * np.uint64(12345678901)
    names = picture_names(pictures)

    def extremes(order: list[int]) -> list[list[list[str]]]:
        ties = content_ties(unit_keys, picture_keys([names[n] for n in order]))
        tracker = ExtremeTracker(units, count, ties=ties)
        tracker.add(torch.from_numpy(values[order]), range(pictures))
        return [[[names[order[place]] for place in row] for row in side.places] for side in tracker.result()]

    moved = data.draw(some.permutations(range(pictures)))
    assert extremes(moved) == extremes(list(range(pictures)))


def test_place_ties_follow_the_place_in_the_pool() -> None:
    silent = np.zeros(12, np.float32)
    assert full_order(silent, 0, place_ties).tolist() == list(range(12))
    tracker = ExtremeTracker(1, 3, ties=place_ties)
    tracker.add(torch.zeros(12, 1), range(12))
    low, high = tracker.result()
    assert (low.places.tolist(), high.places.tolist()) == ([[0, 1, 2]], [[11, 10, 9]])


def test_content_ties_of_silent_units_show_each_unit_other_pictures() -> None:
    ties = ties_of("content", 200, 1000)
    tracker = ExtremeTracker(200, 9, ties=ties)
    tracker.add(torch.zeros(1000, 200), range(1000))
    low, high = tracker.result()
    assert len({tuple(row) for row in low.places.tolist()}) == 200
    # 1,800 draws of 1,000 pictures miss each of them with probability exp(-1.8).
    assert len(np.unique(low.places)) == pytest.approx(1000 * (1 - np.exp(-1.8)), abs=60)
    assert abs(low.places.mean() - 499.5) < 40
    assert not any(set(a) & set(b) for a, b in zip(low.places.tolist(), high.places.tolist()))


def test_content_ties_follow_the_seed() -> None:
    silent = np.zeros(50, np.float32)
    first, again, other = (full_order(silent, 0, ties_of("content", 1, 50, seed)).tolist() for seed in (1, 1, 2))
    assert first == again != other

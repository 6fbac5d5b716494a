"""References and queries: the protocol's windows of a brute-force sort, dealt to disjoint tasks of equal strength."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray

from benchmark.errors import PoolTooSmall
from benchmark.hashing import hash_bytes, picture_keys
from benchmark.protocol import DIFFICULTIES, Protocol, Window, Windows, load_protocol
from benchmark.study import Study
from benchmark.tasks import assemble_tasks
from benchmark.units import Unit
from stimuli.exemplars import SIDES, Exemplars, choose_exemplars, exemplar_rows, strata
from stimuli.order_statistics import content_ties, full_order, place_ties

UNIT = Unit("resnet50", "layer3.2.conv1", 17)


def protocol_of(name: str, k: int, b: int, **rules: Any) -> Protocol:
    tasks = {"references_per_side": k, "per_unit": b, "distinct_classes": rules.pop("distinct_classes", False)}
    changes: dict[str, dict[str, Any]] = {"tasks": tasks}
    if "distinct_groups" in rules:
        changes["pool"] = {"distinct_groups": rules.pop("distinct_groups")}
    return load_protocol(name).override(changes)


def choose(
    order: NDArray[np.int64],
    windows: Windows,
    protocol: Protocol,
    seed: int = 1,
    groups: NDArray[np.int64] | None = None,
    labels: NDArray[np.int64] | None = None,
    unit: Unit = UNIT,
) -> Exemplars:
    own = np.arange(len(order)) if groups is None else groups
    return choose_exemplars(order, windows, protocol, seed=seed, unit=unit, groups=own, labels=labels)


def members(chosen: Exemplars, task: int, difficulty: str = "easy") -> list[int]:
    """Return all pictures of a task."""
    references = [place for side in SIDES for place in chosen.references[side][task].tolist()]
    return references + [int(chosen.queries[difficulty, side][task]) for side in SIDES]  # type: ignore[index]


# -------------------------------------------------------------------- windows


@settings(max_examples=120, deadline=None)
@given(
    name=some.sampled_from(["imi2023", "vimi1"]),
    k=some.integers(1, 4),
    b=some.integers(1, 4),
    difficulties=some.sets(some.sampled_from(DIFFICULTIES), min_size=1),
    size=some.integers(20, 4000),
    values=some.sampled_from(["distinct", "ties", "silent"]),
    seed=some.integers(0, 10**6),
)
def test_every_window_is_that_of_a_brute_force_sort(
    name: str, k: int, b: int, difficulties: set[Any], size: int, values: str, seed: int
) -> None:
    protocol = protocol_of(name, k, b)
    asked = tuple(difficulty for difficulty in DIFFICULTIES if difficulty in difficulties)
    size = max(size, protocol.smallest_pool(asked))
    assume(size <= 4000)
    windows = protocol.windows(size, asked)
    generator = np.random.default_rng(seed)
    column = {
        "distinct": generator.permutation(size),
        "ties": generator.integers(0, 5, size),
        "silent": np.zeros(size),
    }[values].astype(np.float32)
    names = [hash_bytes(str(place).encode()) for place in range(size)]
    if name == "imi2023":
        ties, keys = place_ties, list(range(size))
    else:
        ties = content_ties(np.array([UNIT.key(1)], dtype=np.uint64), picture_keys(names))
        keys = ties(np.array([0]), np.arange(size)[None])[0].tolist()
    by_hand = sorted(range(size), key=lambda place: (float(column[place]), keys[place]))
    chosen = choose(full_order(column, 0, ties), windows, protocol, seed)

    assert chosen.ranks.tolist() == np.argsort(by_hand).tolist()
    exact = name == "imi2023"
    wide = {"references": max(b * k, 0 if exact else 4 * size // 1000), "query": max(b, 0 if exact else size // 1000)}
    starts = {"easy": wide["references"], "medium": size // 100, "hard": 5 * size // 100, "very_hard": 15 * size // 100}
    for side, ranking in (("min", by_hand), ("max", by_hand[::-1])):
        references = chosen.references[side]
        assert references.shape == (b, k)
        assert set(references.ravel().tolist()) <= set(ranking[: wide["references"]])
        if wide["references"] == b * k:
            assert sorted(references.ravel().tolist()) == sorted(ranking[: b * k])
        for difficulty in asked:
            window = ranking[starts[difficulty] : starts[difficulty] + wide["query"]]
            queries = chosen.queries[difficulty, side].tolist()
            assert len(set(queries)) == b and set(queries) <= set(window)
            if wide["query"] == b:
                assert sorted(queries) == sorted(window)
    shown = [place for side in SIDES for place in chosen.references[side].ravel().tolist()]
    shown += [place for queries in chosen.queries.values() for place in queries.tolist()]
    assert len(shown) == len(set(shown)), "all tasks and difficulties are disjoint"


def test_the_papers_ranks_are_met_to_the_digit() -> None:
    windows = load_protocol("imi2023").windows(1_281_167, DIFFICULTIES)
    size = windows.size
    assert (windows.references.start, windows.references.stop) == (0, 180)
    easy = windows.queries["easy"]
    assert (easy.start, easy.stop - 1) == (180, 199)
    assert (size - easy.stop, size - easy.start - 1) == (1_280_967, 1_280_986)
    for difficulty, low, high in (("medium", 12_811, 1_268_356), ("hard", 64_058, 1_217_109),
                                  ("very_hard", 192_175, 1_088_992)):  # fmt: skip
        window = windows.queries[difficulty]  # type: ignore[index]
        assert (window.start, window.count) == (low, 20)
        assert size - window.start == high  # the upper window ends just below this rank


def test_a_pool_that_is_too_small_is_refused_with_the_smallest_that_would_do() -> None:
    protocol = load_protocol("imi2023")
    for difficulties, smallest in ((("easy",), 400), (("very_hard",), 1200), (("hard",), 3600), (("medium",), 18_000)):
        assert protocol.smallest_pool(difficulties) == smallest  # type: ignore[arg-type]
        protocol.windows(smallest, difficulties)  # type: ignore[arg-type]
        with pytest.raises(PoolTooSmall, match=f"smallest pool that works has {smallest:,} pictures"):
            protocol.windows(smallest - 1, difficulties)  # type: ignore[arg-type]
    protocol.windows(1000, ("easy",))
    with pytest.raises(PoolTooSmall, match=r"1,000 pictures are too few for 'easy', 'hard'.*K = 9.*B = 20"):
        protocol.windows(1000, ("easy", "hard"))


@given(start=some.integers(0, 50), count=some.integers(1, 200), k=some.integers(1, 12))
def test_strata_cut_a_window_into_consecutive_parts_of_equal_size(start: int, count: int, k: int) -> None:
    parts = strata(Window(start, count), k)
    assert [rank for part in parts for rank in part] == list(range(start, start + count))
    assert len(parts) == k
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(max_examples=60, deadline=None)
@given(name=some.sampled_from(["imi2023", "vimi1"]), k=some.integers(1, 5), b=some.integers(1, 5),
       extra=some.integers(0, 3000), seed=some.integers(0, 1000))  # fmt: skip
def test_each_task_gets_one_picture_of_every_stratum_the_strongest_first(
    name: str, k: int, b: int, extra: int, seed: int
) -> None:
    protocol = protocol_of(name, k, b)
    size = protocol.smallest_pool() + extra
    windows = protocol.windows(size)
    order = np.random.default_rng(seed).permutation(size)
    chosen = choose(order, windows, protocol, seed)
    parts = strata(windows.references, k)
    for side in SIDES:
        strength = chosen.ranks[chosen.references[side]]
        depth = strength if side == "min" else size - 1 - strength
        for position, part in enumerate(parts):
            assert all(rank in part for rank in depth[:, position])


# -------------------------------------------------------------------- seeds


def test_the_same_seed_deals_alike_and_another_seed_or_unit_otherwise() -> None:
    protocol = protocol_of("vimi1", 9, 20)
    windows = protocol.windows(5000, ("easy", "very_hard"))
    order = np.random.default_rng(0).permutation(5000)

    def flat(chosen: Exemplars) -> list[list[Any]]:
        return [value.tolist() for value in (*chosen.references.values(), *chosen.queries.values())]

    first = flat(choose(order, windows, protocol, 1))
    assert first == flat(choose(order, windows, protocol, 1))
    others = [
        choose(order, windows, protocol, 2),
        choose(order, windows, protocol, 1, unit=Unit("resnet50", "layer3.2.conv1", 18)),
    ]
    for other in others:
        assert all(a != b for a, b in zip(first, flat(other)))


def test_every_picture_of_a_stratum_is_as_likely_in_every_task() -> None:
    protocol = protocol_of("imi2023", 2, 4)
    order = np.arange(40)
    counts = np.zeros((4, 40))
    for seed in range(800):
        chosen = choose(order, protocol.windows(40), protocol, seed)
        for task in range(4):
            counts[task, chosen.references["min"][task]] += 1
            counts[task, chosen.queries["easy", "min"][task]] += 1
    # 800 draws with probability 1/4: 200, give or take five standard deviations.
    assert np.abs(counts[:, :12] - 200).max() < 62


# -------------------------------------------------------------------- groups


def repeats(chosen: Exemplars, groups: NDArray[np.int64], difficulty: str = "easy") -> int:
    """Count pictures whose group their task shows already."""
    tasks = len(chosen.references["max"])
    return sum(
        len(places) - len(set(groups[places].tolist()))
        for places in (members(chosen, task, difficulty) for task in range(tasks))
    )


@settings(max_examples=60, deadline=None)
@given(seed=some.integers(0, 10_000), name=some.sampled_from(["vimi1", "imi2023"]), share=some.floats(0.1, 1))
def test_no_group_is_shown_twice_in_a_task_where_groups_are_small(seed: int, name: str, share: float) -> None:
    protocol = protocol_of(name, 5, 6, distinct_groups=True)
    generator = np.random.default_rng(seed)
    size = 300
    groups = np.arange(size)
    pairs = generator.permutation(size)[: int(size * share) // 3 * 3].reshape(-1, 3)
    groups[pairs] = pairs[:, :1]  # groups of three
    order = generator.permutation(size)
    chosen = choose(order, protocol.windows(size, ("easy", "very_hard")), protocol, seed, groups)
    for difficulty in ("easy", "very_hard"):
        assert repeats(chosen, groups, difficulty) == 0
    assert not chosen.repeated


@settings(max_examples=60, deadline=None)
@given(seed=some.integers(0, 10_000), kinds=some.integers(1, 30), k=some.integers(1, 5), b=some.integers(1, 6))
def test_what_repeats_a_group_is_flagged_and_nothing_else(seed: int, kinds: int, k: int, b: int) -> None:
    protocol = protocol_of("vimi1", k, b)
    generator = np.random.default_rng(seed)
    size = max(protocol.smallest_pool(), 100)
    groups = generator.integers(0, kinds, size)
    chosen = choose(generator.permutation(size), protocol.windows(size), protocol, seed, groups)
    for task in range(b):
        places = members(chosen, task)
        flagged = [place for place in places if (task, place) in chosen.repeated]
        assert len(flagged) == len(places) - len(set(groups[places].tolist()))
        kept = [place for place in places if place not in flagged]
        assert len(set(groups[kept].tolist())) == len(kept)
    assert all(place in members(chosen, task) for task, place in chosen.repeated)


@settings(max_examples=150, deadline=None)
@given(data=some.data(), b=some.integers(2, 3), k=some.integers(1, 2))
def test_a_group_is_repeated_only_where_no_other_deal_could_avoid_it(data: some.DataObject, b: int, k: int) -> None:
    protocol = protocol_of("imi2023", k, b, distinct_groups=True)
    size = protocol.smallest_pool()
    groups = np.array(data.draw(some.lists(some.integers(0, 2 * k + 2), min_size=size, max_size=size)))
    chosen = choose(np.arange(size), protocol.windows(size), protocol, data.draw(some.integers(0, 99)), groups)
    # Every stratum and the queries of a side hold exactly one picture for each task.
    columns = [groups[n * b : (n + 1) * b].tolist() for n in range(2 * (k + 1))]
    assert (repeats(chosen, groups) == 0) == can_be_dealt(columns, [set() for _ in range(b)])
    assert bool(chosen.repeated) == (repeats(chosen, groups) > 0)


def can_be_dealt(columns: list[list[int]], taken: list[set[int]]) -> bool:
    """Say whether each column can be permuted so that no task gets a group twice, by trying everything."""
    if not columns:
        return True
    for deal in set(permutations(columns[0])):
        if all(group not in own for group, own in zip(deal, taken)) and can_be_dealt(
            columns[1:], [own | {group} for group, own in zip(deal, taken)]
        ):
            return True
    return False


def test_the_papers_protocol_knows_no_groups() -> None:
    protocol = protocol_of("imi2023", 3, 4)
    order = np.random.default_rng(0).permutation(100)
    windows = protocol.windows(100)
    groups = np.zeros(100, dtype=np.int64)
    one = choose(order, windows, protocol, 1, groups)
    assert not one.repeated
    assert np.array_equal(one.references["max"], choose(order, windows, protocol, 1).references["max"])


# -------------------------------------------------------------------- classes


@settings(max_examples=40, deadline=None)
@given(seed=some.integers(0, 10_000), unlabelled=some.booleans())
def test_no_query_has_the_class_of_a_reference_if_classes_must_be_distinct(seed: int, unlabelled: bool) -> None:
    protocol = protocol_of("vimi1", 4, 5, distinct_classes=True)
    generator = np.random.default_rng(seed)
    size = 400
    labels = generator.integers(0, 40, size)
    if unlabelled:
        labels[generator.random(size) < 0.5] = -1
    chosen = choose(generator.permutation(size), protocol.windows(size), protocol, seed, labels=labels)
    assert not chosen.repeated
    for task in range(5):
        shown = {int(labels[p]) for side in SIDES for p in chosen.references[side][task]} - {-1}
        assert not shown & {int(labels[chosen.queries["easy", side][task]]) for side in SIDES}


def test_a_class_that_can_not_be_avoided_is_flagged() -> None:
    protocol = protocol_of("vimi1", 4, 5, distinct_classes=True)
    labels = np.zeros(100, dtype=np.int64)
    chosen = choose(np.arange(100), protocol.windows(100), protocol, labels=labels)
    assert chosen.repeated == {
        (task, int(chosen.queries["easy", side][task])) for task, side in product(range(5), SIDES)
    }


def test_classes_may_repeat_where_the_protocol_lets_them() -> None:
    protocol = protocol_of("vimi1", 4, 5)
    assert not choose(np.arange(100), protocol.windows(100), protocol, labels=np.zeros(100, dtype=np.int64)).repeated


# -------------------------------------------------------------------- rows


def test_rows_say_of_every_picture_what_it_serves_and_how_strong_it_is() -> None:
    protocol = protocol_of("vimi1", 3, 4)
    size = 200
    column = np.random.default_rng(0).normal(size=size).astype(np.float32)
    order = np.argsort(column)
    groups = np.arange(size) // 2
    pool = pd.DataFrame(
        {
            "picture": [f"p{place}" for place in range(size)],
            "label": [f"class{place % 7}" for place in range(size)],
            "group": [f"g{number}" for number in groups],
        }
    )
    chosen = choose(order, protocol.windows(size), protocol, groups=groups)
    rows = pd.DataFrame(exemplar_rows(UNIT, chosen, column, pool, "vimi1"))
    assert len(rows) == 2 * 4 * (3 + 1)
    assert rows["picture"].is_unique
    for row in rows.to_dict("records"):
        place = int(row["picture"][1:])
        assert row["activation"] == pytest.approx(float(column[place]))
        assert (row["label"], row["group"]) == (f"class{place % 7}", f"g{place // 2}")
        below = int((column < column[place]).sum())
        assert row["rank"] == (below if row["side"] == "min" else size - 1 - below)
        assert (row["model"], row["layer"], row["index"]) == ("resnet50", "layer3.2.conv1", 17)
    for (_, side), own in rows[rows["role"] == "reference"].groupby(["task", "side"]):
        strength = own.sort_values("position")["activation"].to_numpy()
        assert (np.diff(strength) < 0).all() if side == "max" else (np.diff(strength) > 0).all()


def test_the_overlap_of_labels_is_what_labels_alone_give_away(tiny_study: Study) -> None:
    tasks = assemble_tasks(tiny_study.stimuli())
    labels = tiny_study.pool().set_index("picture")["label"]
    natural = tasks[(tasks["condition"] == "natural") & (tasks["model"] != "planted")]
    assert len(natural) and natural["label_overlap"].nunique() > 1
    for row in natural.itertuples():
        shown = {"max": labels[row.references_max], "min": labels[row.references_min]}
        query = {"max": labels[row.query_max], "min": labels[row.query_min]}
        by_hand = np.mean(
            [
                (shown[side] == query[side]).mean() - (shown[other] == query[side]).mean()
                for side, other in (("max", "min"), ("min", "max"))
            ]
        )
        assert row.label_overlap == pytest.approx(by_hand)
    trials = tiny_study.trials()
    main = trials[(trials["kind"] == "main") & (trials["condition"] == "natural")]
    assert main["label_overlap"].notna().all()

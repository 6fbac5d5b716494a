"""Protocols: windows of a ranking to the digit, the smallest pool, and the identity."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.errors import DocumentError, NameNotFound, PoolTooSmall
from benchmark.experiment import Experiment, ModelEntry, SessionSettings, StimulusSettings, UnitSettings
from benchmark.protocol import DIFFICULTIES, Difficulty, Protocol, Windows, load_protocol, protocol_names

Spans = dict[str, tuple[tuple[int, int], tuple[int, int]]]

IMAGENET_TRAINING, IMAGENET_VALIDATION = 1_281_167, 50_000

# What a band begins with, in hundredths of the pool, and how wide it is, in thousandths, written anew for the tests.
BEGINS_AT = {"medium": 1, "hard": 5, "very_hard": 15}
WIDTHS = {"imi2023": (0, 0), "vimi1": (4, 1)}


def spans(windows: Windows) -> Spans:
    """Return the lower and the upper span of ranks of every window, counted from the least active picture."""
    named = {"references": windows.references, **windows.queries}
    return {
        name: ((window.start, window.stop), (windows.size - window.stop, windows.size - window.start))
        for name, window in named.items()
    }


def expected_bands(name: str, size: int, k: int, b: int, difficulties: tuple[str, ...]) -> list[tuple[int, int]] | None:
    """Return the spans of ranks from an extreme end in integer arithmetic, or None if they do not fit."""
    references, queries = (share * size // 1000 for share in WIDTHS[name])
    bands = [(0, max(b * k, references))]
    for difficulty in difficulties:
        start = bands[0][1] if difficulty == "easy" else BEGINS_AT[difficulty] * size // 100
        bands.append((start, start + max(b, queries)))
    in_order = all(before[1] <= after[0] for before, after in pairwise(bands))
    return bands if in_order and 2 * bands[-1][1] <= size else None


def pick(flags: tuple[bool, ...]) -> tuple[Difficulty, ...]:
    return tuple(difficulty for difficulty, flag in zip(DIFFICULTIES, flags) if flag)


some_difficulties = st.tuples(*[st.booleans()] * 4).filter(any).map(pick)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        (
            "imi2023",
            IMAGENET_TRAINING,
            {
                "references": ((0, 180), (1_280_987, 1_281_167)),
                "easy": ((180, 200), (1_280_967, 1_280_987)),
                "medium": ((12_811, 12_831), (1_268_336, 1_268_356)),
                "hard": ((64_058, 64_078), (1_217_089, 1_217_109)),
                "very_hard": ((192_175, 192_195), (1_088_972, 1_088_992)),
            },
        ),
        (
            "imi2023",
            IMAGENET_VALIDATION,
            {
                "references": ((0, 180), (49_820, 50_000)),
                "easy": ((180, 200), (49_800, 49_820)),
                "medium": ((500, 520), (49_480, 49_500)),
                "hard": ((2_500, 2_520), (47_480, 47_500)),
                "very_hard": ((7_500, 7_520), (42_480, 42_500)),
            },
        ),
        (
            "vimi1",
            IMAGENET_TRAINING,
            {
                "references": ((0, 5_124), (1_276_043, 1_281_167)),
                "easy": ((5_124, 6_405), (1_274_762, 1_276_043)),
                "medium": ((12_811, 14_092), (1_267_075, 1_268_356)),
                "hard": ((64_058, 65_339), (1_215_828, 1_217_109)),
                "very_hard": ((192_175, 193_456), (1_087_711, 1_088_992)),
            },
        ),
        (
            "vimi1",
            IMAGENET_VALIDATION,
            {
                "references": ((0, 200), (49_800, 50_000)),
                "easy": ((200, 250), (49_750, 49_800)),
                "medium": ((500, 550), (49_450, 49_500)),
                "hard": ((2_500, 2_550), (47_450, 47_500)),
                "very_hard": ((7_500, 7_550), (42_450, 42_500)),
            },
        ),
    ],
)
def test_windows_are_right_to_the_digit_in_a_large_pool(name: str, size: int, expected: Spans) -> None:
    assert spans(load_protocol(name).windows(size, DIFFICULTIES)) == expected


@pytest.mark.parametrize("name", ["imi2023", "vimi1"])
def test_a_thousand_pictures_carry_easy_tasks_with_the_outermost_fifth_and_nothing_harder(name: str) -> None:
    protocol = load_protocol(name)
    assert spans(protocol.windows(1000)) == {
        "references": ((0, 180), (820, 1000)),
        "easy": ((180, 200), (800, 820)),
    }
    for difficulty in ("medium", "hard", "very_hard"):
        with pytest.raises(PoolTooSmall):
            protocol.windows(1000, (difficulty,))


@pytest.mark.parametrize("name", ["imi2023", "vimi1"])
@pytest.mark.parametrize(
    ("difficulties", "smallest"),
    [
        (("easy",), 400),
        (("medium",), 18_000),
        (("hard",), 3_600),
        (("very_hard",), 1_200),
        (("easy", "medium"), 20_000),
        (("easy", "hard"), 4_000),
        (DIFFICULTIES, 20_000),
    ],
)
def test_the_error_names_the_smallest_pool(name: str, difficulties: tuple[Difficulty, ...], smallest: int) -> None:
    protocol = load_protocol(name)
    assert protocol.smallest_pool(difficulties) == smallest
    protocol.windows(smallest, difficulties)
    with pytest.raises(PoolTooSmall) as caught:
        protocol.windows(smallest - 1, difficulties)
    message = str(caught.value)
    assert f"{smallest - 1:,} pictures" in message
    assert f"smallest pool that works has {smallest:,} pictures" in message
    assert "K = 9" in message and "B = 20" in message and name in message
    assert all(repr(difficulty) in message for difficulty in difficulties)


@given(
    name=st.sampled_from(["imi2023", "vimi1"]),
    size=st.one_of(st.integers(1, 3_000), st.integers(1, 2_000_000)),
    k=st.integers(1, 25),
    b=st.integers(1, 40),
    difficulties=some_difficulties,
)
@settings(deadline=None, max_examples=150)
def test_bands_begin_at_their_quantile_and_never_overlap(
    name: str, size: int, k: int, b: int, difficulties: tuple[Difficulty, ...]
) -> None:
    protocol = load_protocol(name).override({"tasks": {"references_per_side": k, "per_unit": b}})
    expected = expected_bands(name, size, k, b, difficulties)
    if expected is None:
        with pytest.raises(PoolTooSmall):
            protocol.windows(size, difficulties)
        return
    found = spans(protocol.windows(size, difficulties))
    assert [lower for lower, _ in found.values()] == expected
    sides = sorted(span for pair in found.values() for span in pair)
    assert sides[0][0] == 0 and sides[-1][1] == size
    assert all(before[1] <= after[0] for before, after in pairwise(sides))
    assert all(stop - start >= b for start, stop in sides)
    assert found["references"][0][1] >= k * b


@given(
    name=st.sampled_from(["imi2023", "vimi1"]),
    k=st.integers(1, 4),
    b=st.integers(1, 4),
    difficulties=some_difficulties,
    larger=st.integers(0, 100_000),
)
@settings(deadline=None, max_examples=50)
def test_the_smallest_pool_is_the_first_that_carries_the_bands_and_larger_ones_carry_them_too(
    name: str, k: int, b: int, difficulties: tuple[Difficulty, ...], larger: int
) -> None:
    protocol = load_protocol(name).override({"tasks": {"references_per_side": k, "per_unit": b}})
    smallest = protocol.smallest_pool(difficulties)
    first = next(size for size in range(1, smallest + 1) if expected_bands(name, size, k, b, difficulties))
    assert smallest == first
    assert protocol.windows(smallest + larger, difficulties).size == smallest + larger


def test_the_reach_is_how_far_the_outermost_windows_go() -> None:
    protocol = load_protocol("vimi1")
    assert protocol.windows(50_000, DIFFICULTIES).reach == 250
    assert protocol.windows(50_000, ("hard",)).reach == 200


@pytest.mark.parametrize("name", protocol_names())
def test_the_untouched_file_has_its_plain_name_as_identity(name: str) -> None:
    protocol = load_protocol(name)
    assert protocol.identity == name
    values = protocol.rules.model_dump(include={"pool", "units", "tasks", "bands", "session"})
    assert protocol.override(values).identity == name
    assert protocol.for_pool(protocol.rules.pool.size).identity == name


def other_value(value: Any) -> Any:
    """Return a valid value that differs from a rule's."""
    known = {
        "imi2023": "canonical",
        "canonical": "imi2023",
        "mean": "cls",
        "place": "content",
        "content": "place",
        "crossed": "nested",
        "nested": "crossed",
    }
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return known[value]
    if isinstance(value, dict):
        changed = {"both": 0.5, "none": 0.5}
        return changed if "both" in value else {**value, "quantile": value["quantile"] + 0.001}
    return value + 1 if isinstance(value, int) else value + 0.001


@pytest.mark.parametrize("name", protocol_names())
def test_every_single_rule_is_part_of_the_identity(name: str) -> None:
    protocol = load_protocol(name)
    identities = [name]
    for section in ("pool", "units", "tasks", "bands", "session"):
        for rule, value in getattr(protocol.rules, section).model_dump().items():
            changed = protocol.override({section: {rule: other_value(value)}})
            assert changed.identity.startswith(f"{name}+"), (section, rule)
            identities.append(changed.identity)
    bands = protocol.rules.bands.model_dump()
    wider = [{band: {**bands[band], "width": bands[band]["width"] + 0.001}} for band in ("medium", "hard", "very_hard")]
    identities += [protocol.override({"bands": band}).identity for band in wider]
    assert len(identities) > 30
    assert len(set(identities)) == len(identities)


def test_the_size_of_the_pool_belongs_to_the_identity() -> None:
    protocol = load_protocol("vimi1")
    assert protocol.for_pool(49_999).identity != protocol.for_pool(49_998).identity != "vimi1"
    assert protocol.for_pool(1000).for_pool(50_000).identity == "vimi1"


def test_the_identity_of_a_departure_can_be_repeated() -> None:
    first = load_protocol("vimi1").override({"tasks": {"per_unit": 5}}).for_pool(800)
    second = load_protocol("vimi1").for_pool(800).override({"tasks": {"per_unit": 5}})
    assert first.identity == second.identity


@pytest.mark.parametrize(
    "departure",
    [
        {"stimuli": StimulusSettings(references=3)},
        {"stimuli": StimulusSettings(tasks=5)},
        {"stimuli": StimulusSettings(distinct_classes=True)},
        {"units": UnitSettings(rule="imi2023")},
        {"units": UnitSettings(aggregator="cls")},
        {"session": SessionSettings(references_none=0.2)},
        {"session": SessionSettings(feedback=False)},
    ],
)
def test_what_an_experiment_departs_from_changes_the_identity(departure: dict[str, Any]) -> None:
    plain = Experiment(models=(ModelEntry(card="resnet50"),))
    changed = Experiment(models=(ModelEntry(card="resnet50"),), **departure)
    assert plain.resolve_protocol().identity == "vimi1"
    assert changed.resolve_protocol().identity.startswith("vimi1+")


@given(none=st.floats(0, 0.4), highest=st.floats(0, 0.3), lowest=st.floats(0, 0.3))
@settings(deadline=None, max_examples=50)
def test_what_an_experiment_leaves_of_the_reference_shares_goes_to_both_sides(
    none: float, highest: float, lowest: float
) -> None:
    session = SessionSettings(references_none=none, references_max=highest, references_min=lowest)
    shares = (
        Experiment(models=(ModelEntry(card="resnet50"),), session=session).resolve_protocol().rules.session.references
    )
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares.get("both", 0.0) == pytest.approx(1.0 - none - highest - lowest, abs=1e-9)
    assert shares.get("none", 0.0) == none


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": {"per_units": 3}}, ["[tasks] per_units", "'per_unit'"]),
        ({"task": {"per_unit": 3}}, ["task", "'tasks'"]),
        ({"units": {"drawn": 10}}, ["drawn (10)", "used (84)"]),
        ({"units": {"rule": "canonic"}}, ["[units] rule", "'canonical'", "'canonic'"]),
        ({"bands": {"hard": {"quantile": 0.7, "width": 0.0}}}, ["[bands] [hard] quantile", "0.5"]),
        ({"session": {"references": {"both": 0.5, "none": 0.4}}}, ["add up to 1"]),
        ({"session": {"references": {"both": 1.5, "none": -0.5}}}, ["at least 0"]),
        ({"pool": {"size": 0}}, ["[pool] size", "0"]),
    ],
)
def test_a_wrong_override_is_named_with_its_place(changes: dict[str, Any], words: list[str]) -> None:
    protocol: Protocol = load_protocol("vimi1")
    with pytest.raises(DocumentError) as caught:
        protocol.override(changes)
    assert "protocol vimi1" in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_unknown_protocol_is_answered_with_the_near_name() -> None:
    with pytest.raises(NameNotFound, match=r"no protocol 'vimi2'.*'vimi1'"):
        load_protocol("vimi2")

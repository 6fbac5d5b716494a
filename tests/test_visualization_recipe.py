"""The preset ``imi2023``: the paper's numbers, its stopping rule, its search, its nine pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.experiment import VisualizationSettings
from benchmark.model_zoo import Model
from benchmark.readings import PlaceReader
from benchmark.units import Unit
from stimuli.synthetic import preset_settings
from stimuli.visualization import recipe2023
from stimuli.visualization.fast import Prefix
from stimuli.visualization.parametrization import quiet_lucent
from stimuli.visualization.recipe2023 import RecipeSettings
from stimuli.visualization.sets import SetRequest, SetResult, Threshold
from stimuli.visualization.views import central_view

from .tiny_models import load_tiny

EASY = Threshold(best=-100.0, median_reference=-100.5, middle=-101.0, deviation=0.1)
HARD = Threshold(best=100.0, median_reference=99.5, middle=99.0, deviation=0.1)
LAYER = "layer2.0.conv1"


@pytest.fixture(scope="module")
def network() -> Model:
    return load_tiny("timm:test_resnet")


def request_for(model: Model, layer: str, index: int, sign: int = 1, threshold: Threshold = HARD) -> SetRequest:
    return SetRequest(Unit(model.name, layer, index), sign, threshold)


def make(model: Model, request: SetRequest, chosen: RecipeSettings) -> SetResult:
    (result,) = recipe2023.visualize(model, model.layer_map[request.unit.layer], [request], chosen, seed=3)
    return result


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float, recipe2023._Run]]:
    """Every optimisation that is run: its number of pictures, its weight of diversity and what became of it."""
    made: list[tuple[int, float, recipe2023._Run]] = []
    plain = recipe2023._Runner.run

    def run(self: recipe2023._Runner, images: int, weight: float, name: str) -> recipe2023._Run:
        made.append((images, weight, plain(self, images, weight, name)))
        return made[-1][2]

    monkeypatch.setattr(recipe2023._Runner, "run", run)
    return made


# ---------------------------------------------------------------- the paper's numbers


def test_at_full_size_the_settings_are_the_papers() -> None:
    paper = RecipeSettings()
    assert (paper.canvas, paper.margin) == (224, 16)
    assert (paper.most_steps, paper.least_steps, paper.window) == (20_000, 2_500, 2_000)
    assert (paper.learning_rate, paper.smoothing, paper.stop_ratio) == (0.05, 0.99, 1.1)
    assert (paper.plain_images, paper.diverse_images) == (9, 8)
    assert paper.first_weights == (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)
    assert paper.bisections == 7


def test_an_experiment_that_asks_for_the_recipe_gets_it_unshrunk() -> None:
    asked = VisualizationSettings(preset="imi2023")
    assert preset_settings(asked, 9, torch.device("cpu"), 224) == RecipeSettings()


@pytest.mark.parametrize("most_steps", [400, 2_000, 10_000])
def test_shrinking_divides_all_step_numbers_by_one_factor_and_leaves_the_rest(most_steps: int) -> None:
    paper, small = RecipeSettings(), RecipeSettings.shrunk(64, most_steps)
    factor = 20_000 / most_steps
    assert small.most_steps == most_steps
    assert small.least_steps == 2_500 / factor
    assert small.window == 2_000 / factor
    # The memory of the smoothing is a number of steps, too.
    assert 1 / -np.log(small.smoothing) == pytest.approx(1 / -np.log(paper.smoothing) / factor)
    changed = {"canvas", "most_steps", "least_steps", "window", "smoothing"}
    kept = [{k: v for k, v in asdict(part).items() if k not in changed} for part in (paper, small)]
    assert kept[0] == kept[1]
    assert (small.canvas, small.margin) == (64, round(16 * 64 / 224))


def test_shrinking_to_very_few_steps_still_gives_a_stopping_rule() -> None:
    tiny = RecipeSettings.shrunk(32, 3)
    assert (tiny.most_steps, tiny.least_steps, tiny.window) == (3, 2, 2)
    assert 0 <= tiny.smoothing < 1


def test_the_transforms_and_the_canvas_are_the_papers(network: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with quiet_lucent():
        from lucent.optvis import param, transform
    made: list[tuple[str, Any]] = []
    for name in ("jitter", "random_scale", "random_rotate"):
        plain = getattr(transform, name)

        def recorded(argument: Any, name: str = name, plain: Any = plain) -> Any:
            made.append((name, argument))
            return plain(argument)

        monkeypatch.setattr(transform, name, recorded)
    sizes: list[tuple[int, int]] = []
    image = param.image

    def sized(size: int, batch: int) -> Any:
        sizes.append((size, batch))
        return image(size, batch=batch)

    monkeypatch.setattr(param, "image", sized)
    rates: list[float] = []
    adam = torch.optim.Adam

    def optimizer(parameters: Any, lr: float) -> torch.optim.Adam:
        rates.append(lr)
        return adam(parameters, lr=lr)

    monkeypatch.setattr(torch.optim, "Adam", optimizer)
    request = request_for(network, "layer1.0.conv1", 3)
    paper = RecipeSettings(most_steps=1)
    runner = recipe2023._Runner(network, network.layer_map["layer1.0.conv1"], request, paper, 0)
    assert runner.run(1, 0.0, "plain").pictures.shape == (1, 3, 224, 224)
    assert sizes == [(256, 1)]
    assert rates == [0.05]
    assert made == [
        ("jitter", 16),
        ("random_scale", [0.95, 0.975, 1.0, 1.025, 1.05]),
        ("random_rotate", [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5]),
        ("jitter", 8),
    ]


# ---------------------------------------------------------------- when a run stops


def steps_until_stop(norms: Iterator[float], chosen: RecipeSettings, most: int) -> int | None:
    rule = recipe2023._StopRule(chosen)
    for step in range(1, most + 1):
        if rule.is_reached(next(norms)):
            return step
    return None


def constantly(value: float) -> Iterator[float]:
    while True:
        yield value


def test_a_settled_gradient_stops_a_run_at_the_papers_first_chance() -> None:
    assert steps_until_stop(constantly(0.3), RecipeSettings(), 20_000) == 2_500


def test_a_gradient_that_keeps_falling_or_rising_never_stops_a_run() -> None:
    paper = RecipeSettings()
    for rate in (1 / 4_000, -1 / 4_000):
        norms = (float(np.exp(rate * step)) for step in range(20_000))
        assert steps_until_stop(norms, paper, 20_000) is None


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0.01, 10), min_size=1, max_size=60),
    st.integers(1, 30),
    st.integers(1, 8),
    st.floats(0, 0.95),
    st.floats(1.01, 2),
)
def test_a_run_stops_when_the_halves_of_the_window_agree(
    norms: list[float], least: int, half: int, smoothing: float, ratio: float
) -> None:
    chosen = RecipeSettings(least_steps=least, window=2 * half, smoothing=smoothing, stop_ratio=ratio)
    smoothed = [norms[0]]
    for norm in norms[1:]:
        smoothed.append(smoothing * smoothed[-1] + (1 - smoothing) * norm)
    expected = None
    for step in range(max(least, 2 * half), len(norms) + 1):
        first, second = np.mean(smoothed[step - 2 * half : step - half]), np.mean(smoothed[step - half : step])
        if max(first / second, second / first) <= ratio * (1 + 1e-12):
            expected = step
            break
    assert steps_until_stop(iter(norms), chosen, len(norms)) == expected


# ---------------------------------------------------------------- the search for the weight of diversity


@dataclass
class KnownRunner:
    """Stands for optimisations whose pictures pass up to a known weight of diversity."""

    limit: float
    weights: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    request: Any = field(default_factory=lambda: SimpleNamespace(threshold=EASY))

    def run(self, images: int, weight: float, name: str) -> recipe2023._Run:
        self.weights.append(weight)
        self.images.append(images)
        weakest = EASY.best + (1.0 if weight <= self.limit else -1.0)
        return recipe2023._Run(torch.full((images, 1), weight), np.full(images, weakest), 0.0, 10)


@settings(deadline=None, max_examples=60)
@given(st.floats(-3, 5.99))
def test_the_search_finds_the_largest_weight_that_passes(exponent: float) -> None:
    runner = KnownRunner(10**exponent)
    best, steps = recipe2023._search(runner, RecipeSettings())  # type: ignore[arg-type]
    assert steps == 10 * len(runner.weights)
    assert set(runner.images) == {8}
    rising = [w for w in RecipeSettings().first_weights if w <= runner.limit]
    if len(rising) == 6:
        assert runner.weights == rising and best is not None and float(best.pictures[0]) == 1e5
        return
    low = rising[-1] if rising else 0.0
    high = RecipeSettings().first_weights[len(rising)]
    assert runner.weights[: len(rising) + 1] == [*rising, high]
    assert len(runner.weights) == len(rising) + 1 + 7
    found = float(best.pictures[0]) if best is not None else 0.0
    # Seven halvings of the interval: what was found is that close below the limit, and it passed.
    assert found <= runner.limit
    assert runner.limit - found <= (high - low) / 2**7 * (1 + 1e-6)


def test_if_every_weight_passes_nothing_is_bisected_and_if_none_does_none_is_chosen() -> None:
    always, never = KnownRunner(1e9), KnownRunner(-1.0)
    best, _ = recipe2023._search(always, RecipeSettings())  # type: ignore[arg-type]
    assert best is not None and always.weights == [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]
    best, _ = recipe2023._search(never, RecipeSettings())  # type: ignore[arg-type]
    assert best is None
    assert never.weights == [1.0, *(0.5**n for n in range(1, 8))]


# ---------------------------------------------------------------- end to end


def test_nine_pictures_are_the_eight_diverse_ones_and_the_strongest_plain_one(
    network: Model, runs: list[tuple[int, float, recipe2023._Run]]
) -> None:
    result = make(network, request_for(network, LAYER, 5, 1, EASY), RecipeSettings.shrunk(32, 8))
    assert result.pixels.shape == (9, 32, 32, 3) and result.pixels.dtype == np.uint8
    assert [(images, weight) for images, weight, _ in runs] == [
        (9, 0.0), (8, 1.0), (8, 10.0), (8, 100.0), (8, 1e3), (8, 1e4), (8, 1e5),
    ]  # fmt: skip
    assert result.steps == sum(run.steps for _, _, run in runs)
    plain, diverse = runs[0][2], runs[-1][2]
    expected = sorted([*diverse.activations.tolist(), plain.activations.max()])
    np.testing.assert_array_equal(result.activations, expected)
    as_bytes = {picture.tobytes() for picture in result.pixels}
    for run, members in ((diverse, range(8)), (plain, [int(plain.activations.argmax())])):
        for number in members:
            pixels = (run.pictures[number] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
            assert pixels.tobytes() in as_bytes
    assert result.accepted is True and result.seconds > 0


def test_a_set_out_of_reach_is_the_plain_one_and_is_kept_as_not_accepted(
    network: Model, runs: list[tuple[int, float, recipe2023._Run]]
) -> None:
    result = make(network, request_for(network, LAYER, 5, -1, HARD), RecipeSettings.shrunk(32, 3, images=3))
    assert [weight for _, weight, _ in runs] == [0.0, 1.0, *(0.5**n for n in range(1, 8))]
    assert result.accepted is False
    assert result.pixels.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(result.activations, np.sort(runs[0][2].activations))
    assert 0 < result.diversity_loss <= 1


def test_a_run_stops_between_its_least_and_its_most_steps(
    network: Model, runs: list[tuple[int, float, recipe2023._Run]]
) -> None:
    chosen = RecipeSettings.shrunk(32, 24, images=2)
    make(network, request_for(network, LAYER, 5, 1, EASY), chosen)
    assert all(chosen.least_steps <= run.steps <= chosen.most_steps for _, _, run in runs)
    assert min(run.steps for _, _, run in runs) < chosen.most_steps


def test_a_larger_weight_makes_pictures_less_alike() -> None:
    model = load_tiny("timm:test_convnext")
    layer = "stages.1.blocks.1.conv_dw"
    request = request_for(model, layer, 5, 1, EASY)
    chosen = RecipeSettings(canvas=32, most_steps=24, least_steps=24, window=2)
    runner = recipe2023._Runner(model, model.layer_map[layer], request, chosen, 3)
    alike = [runner.run(3, weight, "same").alike for weight in (0.0, 1e4)]
    assert alike[1] < alike[0] - 0.05


@pytest.mark.parametrize(
    ("card", "layer"),
    [
        ("timm:test_resnet", "layer2.0.conv1"),
        # Activation functions that work in place overwrite these two.
        ("timm:test_resnet", "layer2.0.bn1"),
        ("timm:test_resnet", "layer2.0.add"),
        ("timm:test_convnext", "stages.1.blocks.0.mlp.fc1"),
        ("timm:test_vit", "blocks.1.mlp.fc1"),
        ("timm:test_vit", "blocks.1.add2"),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_optimised_is_the_layer_before_its_activation_function(card: str, layer: str, sign: int) -> None:
    model = load_tiny(card)
    request = request_for(model, layer, 2, sign)
    chosen = RecipeSettings(canvas=32, most_steps=16, least_steps=16, window=2)
    runner = recipe2023._Runner(model, model.layer_map[layer], request, chosen, 3)
    run = runner.run(2, 0.0, "plain")
    with PlaceReader(model.module, [model.layer_map[layer].place], "mean", model.prefix_tokens) as reader:
        read = sign * reader.read_places(model.normalize(run.pictures))[0][:, 2].numpy()
    np.testing.assert_allclose(run.activations, read, rtol=0, atol=1e-4 * np.abs(read).max())
    still = replace(chosen, learning_rate=0.0, most_steps=1)
    start = recipe2023._Runner(model, model.layer_map[layer], request, still, 3).run(2, 0.0, "plain")
    assert run.activations.min() > start.activations.min() and run.activations.mean() > start.activations.max()


@pytest.mark.parametrize(("canvas", "shown"), [(32, 32), (40, 160)])
def test_a_transformer_works_although_lucents_transforms_give_it_sizes_that_it_does_not_take(
    canvas: int, shown: int
) -> None:
    model = load_tiny("timm:test_vit")
    layer = "blocks.1.mlp.fc1"
    request = request_for(model, layer, 2, 1, EASY)
    result = make(model, request, RecipeSettings.shrunk(canvas, 3, images=2))
    assert result.pixels.shape == (2, canvas, canvas, 3)
    prefix = Prefix(model, model.layer_map[layer], canvas, dtype=torch.float32)
    assert prefix.side == shown, "thresholds are measured at this size"
    pictures = central_view(torch.from_numpy(result.pixels).permute(0, 3, 1, 2).float() / 255, 0, shown)
    with torch.no_grad():
        read = prefix.activations(prefix.features(pictures), 2)[:, 2].numpy()
    np.testing.assert_allclose(result.activations, read, rtol=0, atol=1e-4)


def test_pictures_too_small_for_what_lies_behind_the_layer_are_no_obstacle(network: Model) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Output size is too small")

    handle = network.module.get_submodule("layer3.0.conv1").register_forward_pre_hook(refuse)
    try:
        result = make(network, request_for(network, LAYER, 5, 1, EASY), RecipeSettings.shrunk(32, 2, images=2))
        assert result.accepted
        with pytest.raises(RuntimeError, match="too small"):
            make(network, request_for(network, "layer4.0.conv1", 5), RecipeSettings.shrunk(160, 2, images=2))
    finally:
        handle.remove()


def test_a_single_reference_is_the_plain_picture(
    network: Model, runs: list[tuple[int, float, recipe2023._Run]]
) -> None:
    result = make(network, request_for(network, LAYER, 5, 1, EASY), RecipeSettings.shrunk(32, 3, images=1))
    assert result.pixels.shape == (1, 32, 32, 3)
    assert [(images, weight) for images, weight, _ in runs] == [(1, 0.0)]


def test_a_set_does_not_depend_on_those_before_it_and_leaves_global_generators_and_model_alone(
    network: Model,
) -> None:
    chosen = RecipeSettings.shrunk(32, 3, images=2)
    wanted = [request_for(network, LAYER, index, sign) for index, sign in ((5, 1), (6, -1))]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    together = list(recipe2023.visualize(network, network.layer_map[LAYER], wanted, chosen, seed=3))
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    alone = make(network, wanted[1], chosen)
    np.testing.assert_array_equal(alone.pixels, together[1].pixels)
    np.testing.assert_array_equal(alone.activations, together[1].activations)
    (other,) = recipe2023.visualize(network, network.layer_map[LAYER], wanted[1:], chosen, seed=4)
    assert (other.pixels != alone.pixels).mean() > 0.5
    for module in network.module.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks

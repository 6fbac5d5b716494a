"""The preset ``fast``: parity with lucent, independence of neighbours, quality."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.adam import Adam
from benchmark.experiment import VisualizationSettings
from benchmark.hashing import hash_state
from benchmark.model_sources import load_card
from benchmark.model_zoo import Model, load_model
from benchmark.protocol import Aggregator
from benchmark.randomness import seed_from
from benchmark.readings import PlaceReader
from benchmark.units import Unit
from stimuli.synthetic import preset_settings
from stimuli.visualization import fast
from stimuli.visualization.diversity import diversity_loss, features_by_picture
from stimuli.visualization.fast import FastSettings, Prefix
from stimuli.visualization.parametrization import quiet_lucent, render, start_spectrum
from stimuli.visualization.sets import SetRequest, SetResult, Threshold
from stimuli.visualization.views import ViewRange, central_view, draw_views, weigh_by_coverage

from .tiny_models import load_tiny

EASY = Threshold(best=-100.0, median_reference=-100.5, middle=-101.0, deviation=0.1)
"""Anything beats it."""
HARD = Threshold(best=100.0, median_reference=99.5, middle=99.0, deviation=0.1)
"""Nothing beats it."""


@pytest.fixture(scope="module")
def normed() -> Model:
    """A network with batch norms, which are folded."""
    return load_tiny("timm:test_resnet")


@pytest.fixture(scope="module")
def convnext() -> Model:
    """A convolutional network without batch norms."""
    return load_tiny("timm:test_convnext")


@pytest.fixture(scope="module")
def transformer() -> Model:
    return load_tiny("timm:test_vit")


def request_for(model: Model, layer: str, index: int, sign: int = 1, threshold: Threshold = HARD) -> SetRequest:
    return SetRequest(Unit(model.name, layer, index), sign, threshold)


def make(
    model: Model, layer: str, requests: Sequence[SetRequest], settings: FastSettings, **options: object
) -> dict[str, SetResult]:
    """Make sets and return them by name."""
    made = fast.visualize(model, model.layer_map[layer], requests, settings, seed=3, **options)  # type: ignore[arg-type]
    results = {result.request.name: result for result in made}
    assert set(results) == {request.name for request in requests}
    return results


def assert_same(one: SetResult, other: SetResult) -> None:
    """Two results are the same to the last bit, but for the time they took."""
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.activations, other.activations)
    assert (one.steps, one.diversity_loss, one.accepted) == (other.steps, other.diversity_loss, other.accepted)


def read_pixels(model: Model, layer: str, index: int, pixels: np.ndarray) -> np.ndarray:
    """Return a unit's activations for 8-bit pictures by a whole forward pass of the network itself."""
    pictures = model.normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    place = model.layer_map[layer].place
    with PlaceReader(model.module, [place], model.aggregator, model.prefix_tokens) as reader:
        return reader.read_places(pictures)[0][:, index].numpy()


def start_pixels(request: SetRequest, settings: FastSettings) -> np.ndarray:
    """Return the pictures that a set starts from, 8-bit and without their margin."""
    spectrum = start_spectrum(seed_from(3, "visualization", request.name), settings.size, images=settings.images)
    pictures = central_view(render(spectrum, settings.size), settings.margin, settings.canvas)
    return (pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def similarity(model: Model, layer: str, pixels: np.ndarray) -> float:
    """Return how alike 8-bit pictures are in a layer."""
    prefix = Prefix(model, model.layer_map[layer], pixels.shape[1], dtype=torch.float32)
    with torch.no_grad():
        tensor = prefix.features(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    features = features_by_picture(tensor, model.layer_map[layer].place.axis, len(pixels))
    return float(diversity_loss(features[None])[0])


# ---------------------------------------------------------------- parity with lucent


def render_with_lucent(
    model: Model,
    layer: str,
    index: int,
    sign: int,
    start: torch.Tensor,
    canvas: int,
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
) -> np.ndarray:
    """Return the picture of lucent's ``render_vis`` in the precision of the start, transforms off."""
    with quiet_lucent():
        from lucent.optvis import objectives, param
        from lucent.optvis import render as lucent_render
        from lucent.optvis.param import color

        double = start.dtype == torch.float64
        if double:
            monkeypatch.setattr(color, "color_correlation_normalized", color.color_correlation_normalized.astype("d"))
        module = copy.deepcopy(model.module)
        module = module.double() if double else module

        def parameters() -> tuple[list[torch.Tensor], object]:
            spectra, image_f = param.image(canvas, batch=len(start))
            spectra[0].data = start.clone()
            return spectra, image_f

        channel = objectives.channel(layer.replace(".", "_"), index)
        images = lucent_render.render_vis(
            module, channel if sign > 0 else -channel, parameters, transforms=[model.normalize], thresholds=(steps,),
            preprocess=False, progress=False, show_image=False, fixed_image_size=canvas,
        )  # fmt: skip
    return images[0]


def render_with_fast(
    model: Model, layer: str, index: int, sign: int, start: torch.Tensor, canvas: int, steps: int, fold: bool = True
) -> np.ndarray:
    """Return the picture of the preset from the same start, views and diversity off."""
    settings = FastSettings(
        canvas=canvas, steps=steps, images=1, sets=1, diversity=False, views=None, check_every=steps, fold=fold
    )
    request = request_for(model, layer, index, sign)
    return make(model, layer, [request], settings, start=start, dtype=start.dtype)[request.name].pixels[0]


@pytest.fixture(scope="module")
def lite0() -> Model:
    """A trained network."""
    return load_model(load_card("efficientnet_lite0"))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("steps", "dtype", "fold"), [(4, torch.float32, False), (16, torch.float64, True), (5, torch.float64, False)]
)
def test_a_picture_is_lucents_from_the_same_start(
    sign: int, steps: int, dtype: torch.dtype, fold: bool, normed: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    canvas, layer, index = 32, "layer3.0.conv1", 5
    start = start_spectrum("parity", canvas, images=1, dtype=dtype)
    theirs = render_with_lucent(normed, layer, index, sign, start, canvas, steps, monkeypatch)[0]
    ours = render_with_fast(normed, layer, index, sign, start, canvas, steps, fold)
    assert ours.shape == theirs.shape
    # Half a grey level is what rounding costs.
    limit = 0.5 + (1e-6 if dtype == torch.float64 else 0.1)
    assert np.abs(ours - 255 * theirs).max() <= limit
    begun = render(start, canvas)[0].permute(1, 2, 0).numpy()
    assert np.abs(255 * (theirs - begun)).mean() > 5, "the picture hardly moved: the comparison says nothing"


@pytest.mark.parametrize(("steps", "dtype"), [(4, torch.float32), (8, torch.float64)])
def test_a_trained_networks_picture_is_lucents(
    steps: int, dtype: torch.dtype, lite0: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    canvas, layer, index = 48, "blocks.2.0.conv_pw", 7
    start = start_spectrum("parity", canvas, images=1, dtype=dtype)
    theirs = render_with_lucent(lite0, layer, index, 1, start, canvas, steps, monkeypatch)[0]
    ours = render_with_fast(lite0, layer, index, 1, start, canvas, steps)
    assert np.abs(ours - 255 * theirs).max() <= 0.5 + (1e-6 if dtype == torch.float64 else 0.1)


def test_the_sign_of_the_objective_matters_to_the_parity(normed: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas, layer, index = 32, "layer2.0.conv1", 5
    start = start_spectrum("parity", canvas, images=1, dtype=torch.float64)
    theirs = render_with_lucent(normed, layer, index, 1, start, canvas, 8, monkeypatch)[0]
    ours = render_with_fast(normed, layer, index, -1, start, canvas, 8)
    assert np.abs(ours - 255 * theirs).max() > 20


# ---------------------------------------------------------------- independence of neighbours

SHARED = FastSettings(
    canvas=32, steps=13, images=3, sets=2, check_every=4, early_steps=4, early_share=0.5, least_steps=4, window=1,
    gain=1e9, last_gain=-1e9,
)  # fmt: skip
CASES = [
    ("normed", "layer2.0.bn1"),
    ("normed", "layer3.0.conv3"),
    ("normed", "layer2.0.add"),
    ("convnext", "stages.1.blocks.0.conv_dw"),
    ("convnext", "stages.1.blocks.1.mlp.fc1"),
    ("transformer", "blocks.1.mlp.fc1"),
    ("transformer", "blocks.2.add1"),
]


def mixed_requests(model: Model, layer: str) -> list[SetRequest]:
    """Sets of which some converge soon and some never."""
    thresholds = [EASY, HARD, HARD, EASY, HARD]
    signs = [1, -1, 1, -1, 1]
    return [
        request_for(model, layer, 3 * number + 1, sign, threshold)
        for number, (sign, threshold) in enumerate(zip(signs, thresholds))
    ]


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_a_set_is_the_same_alone_and_among_others_in_any_slot_and_order_bit_by_bit(
    name: str, layer: str, request: pytest.FixtureRequest
) -> None:
    model: Model = request.getfixturevalue(name)
    wanted = mixed_requests(model, layer)
    alone = {r.name: make(model, layer, [r], SHARED)[r.name] for r in wanted}
    steps = {name: result.steps for name, result in alone.items()}
    assert len(set(steps.values())) > 1, "no set left before another: the test says nothing"
    for order in ((4, 3, 2, 1, 0), (1, 0, 3, 4, 2)):
        together = make(model, layer, [wanted[number] for number in order], SHARED)
        for key, result in together.items():
            assert_same(result, alone[key])


@pytest.mark.parametrize(("steps", "check_every"), [(13, 4), (8, 4), (7, 5), (5, 12), (9, 1)])
def test_a_set_that_enters_after_another_has_left_is_checked_at_its_own_steps(
    steps: int, check_every: int, normed: Model
) -> None:
    settings = replace(SHARED, steps=steps, check_every=check_every)
    layer = "layer2.0.conv1"
    wanted = mixed_requests(normed, layer)
    together = make(normed, layer, wanted, settings)
    for request in wanted:
        assert_same(together[request.name], make(normed, layer, [request], settings)[request.name])


@pytest.mark.parametrize("threads", [1, 2])
def test_other_neighbours_change_nothing(threads: int, normed: Model) -> None:
    torch.set_num_threads(threads)
    layer = "layer2.0.conv1"
    own = request_for(normed, layer, 4)
    settings = replace(SHARED, sets=3)
    results = [
        make(normed, layer, [*neighbours, own], settings)[own.name]
        for neighbours in (
            [request_for(normed, layer, 9, -1, EASY)],
            [request_for(normed, layer, 20, 1, HARD), request_for(normed, layer, 4, -1, HARD)],
        )
    ]
    assert_same(*results)


def test_the_same_holds_without_views_and_without_diversity(normed: Model) -> None:
    layer = "layer2.0.conv1"
    for settings in (replace(SHARED, views=None), replace(SHARED, diversity=False), replace(SHARED, fold=False)):
        assert settings.early == (4 if settings.diversity else 0)
        wanted = mixed_requests(normed, layer)
        together = make(normed, layer, wanted, settings)
        for request in wanted[2:]:
            assert_same(together[request.name], make(normed, layer, [request], settings)[request.name])


@pytest.mark.parametrize(("name", "layer"), [CASES[0], CASES[3], CASES[5]])
def test_another_shape_of_the_batch_gives_the_same_in_double_precision(
    name: str, layer: str, request: pytest.FixtureRequest
) -> None:
    model: Model = request.getfixturevalue(name)
    wanted = mixed_requests(model, layer)
    results = [
        make(model, layer, wanted, replace(SHARED, sets=sets, steps=6, check_every=3), dtype=torch.float64)
        for sets in (1, 2, 4)
    ]
    for other in results[1:]:
        for key, result in results[0].items():
            assert other[key].steps == result.steps
            np.testing.assert_allclose(other[key].activations, result.activations, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(other[key].pixels, result.pixels)
            assert other[key].diversity_loss == pytest.approx(result.diversity_loss, abs=1e-6)


def test_pictures_depend_on_seed_unit_side_and_number_and_on_no_global_generator(normed: Model) -> None:
    layer = "layer2.0.conv1"
    request = request_for(normed, layer, 4)
    settings = replace(SHARED, steps=3)
    first = make(normed, layer, [request], settings)[request.name]
    torch.manual_seed(77)
    np.random.seed(77)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    assert_same(first, make(normed, layer, [request], settings)[request.name])
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002
    (reseeded,) = fast.visualize(normed, normed.layer_map[layer], [request], settings, seed=4)
    others = [
        make(normed, layer, [other], settings)[other.name]
        for other in (request_for(normed, layer, 5), request_for(normed, layer, 4, -1))
    ]
    for other in (reseeded, *others):
        assert (other.pixels != first.pixels).mean() > 0.5
    assert len({picture.tobytes() for picture in first.pixels}) == 3


def test_the_model_is_left_as_it_was(normed: Model) -> None:
    before = hash_state(normed.module.state_dict())
    make(normed, "layer2.0.bn1", mixed_requests(normed, "layer2.0.bn1")[:2], replace(SHARED, steps=3))
    assert hash_state(normed.module.state_dict()) == before
    assert not normed.module.training
    for module in normed.module.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_no_request_gives_no_set(normed: Model) -> None:
    assert make(normed, "layer2.0.conv1", [], SHARED) == {}


# ---------------------------------------------------------------- quality


@pytest.mark.parametrize(
    ("card", "layer", "aggregator"),
    [
        ("timm:test_resnet", "layer3.0.bn2", "mean"),
        ("timm:test_resnet", "layer2.0.add", "max"),
        ("timm:test_efficientnet", "blocks.3.0.se.conv_reduce", "mean"),
        ("timm:test_convnext", "stages.1.blocks.0.norm", "mean"),
        ("timm:test_vit", "blocks.2.mlp.fc1", "mean"),
        ("timm:test_vit", "blocks.2.add2", "cls"),
        ("timm:test_vit", "blocks.1.norm2", "patches"),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_activations_are_those_of_the_8_bit_pictures_and_far_beyond_the_start(
    card: str, layer: str, aggregator: Aggregator, sign: int
) -> None:
    model = load_tiny(card, aggregator)
    settings = FastSettings(canvas=32, steps=72, images=2, sets=1, diversity=False)
    request = request_for(model, layer, 2, sign)
    result = make(model, layer, [request], settings)[request.name]
    assert result.pixels.shape == (2, 32, 32, 3) and result.pixels.dtype == np.uint8
    assert (np.diff(result.activations) >= 0).all(), "from the weakest to the strongest"
    read = sign * read_pixels(model, layer, 2, result.pixels)
    scale = np.abs(read).max()
    np.testing.assert_allclose(result.activations, read, rtol=0, atol=1e-4 * scale)
    noise = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    usual = sign * read_pixels(model, layer, 2, noise)
    start = sign * read_pixels(model, layer, 2, start_pixels(request, settings))
    # A maximum over positions can fall only as far as all positions do.
    far = 1 if aggregator == "max" else 2
    assert result.activations.min() > start.max() + far * usual.std()
    assert result.activations.min() > usual.max()


def test_a_network_that_takes_only_its_own_size_gets_pictures_of_the_canvas(transformer: Model) -> None:
    layer, canvas = "blocks.1.mlp.fc1", 50
    settings = FastSettings(canvas=canvas, steps=24, images=2, sets=1, diversity=False)
    request = request_for(transformer, layer, 2)
    result = make(transformer, layer, [request], settings)[request.name]
    assert result.pixels.shape == (2, canvas, canvas, 3)
    shown = central_view(torch.from_numpy(result.pixels).permute(0, 3, 1, 2).float() / 255, 0, 160)
    prefix = Prefix(transformer, transformer.layer_map[layer], 160, dtype=torch.float32)
    with torch.no_grad():
        read = prefix.activations(prefix.features(shown), 2)[:, 2].numpy()
    np.testing.assert_allclose(result.activations, read, atol=1e-4)
    (start,) = make(transformer, layer, [request], replace(settings, steps=1)).values()
    assert result.activations.min() > start.activations.max()


@pytest.mark.parametrize("sign", [1, -1])
def test_pictures_that_were_driven_apart_early_stay_apart_and_lose_little(sign: int, lite0: Model) -> None:
    layer, index = "blocks.2.0.conv_pw", 7
    settings = FastSettings(canvas=32, steps=96, images=3, sets=1, early_steps=24, gain=-1e9)
    request = request_for(lite0, layer, index, sign)
    start = sign * read_pixels(lite0, layer, index, start_pixels(request, settings))
    (diverse,) = make(lite0, layer, [request], settings).values()
    (plain,) = make(lite0, layer, [request], replace(settings, diversity=False)).values()
    assert similarity(lite0, layer, diverse.pixels) == pytest.approx(diverse.diversity_loss, abs=1e-3)
    assert diverse.diversity_loss < similarity(lite0, layer, plain.pixels) - 0.02
    reached, without = (np.median(result.activations) - np.median(start) for result in (diverse, plain))
    assert reached > 0.8 * without


def test_a_set_out_of_reach_takes_all_its_steps_and_is_kept_as_not_accepted(normed: Model) -> None:
    layer = "layer2.0.conv1"
    request = request_for(normed, layer, 3, -1, HARD)
    (result,) = make(normed, layer, [request], SHARED).values()
    assert result.accepted is False
    assert result.steps == SHARED.steps
    assert result.pixels.shape == (3, 32, 32, 3)
    assert result.pixels.std() > 5
    assert HARD.over_best(float(result.activations.max())) < 1
    assert HARD.margin(float(result.activations.max())) < 0
    assert result.seconds > 0


def test_a_set_leaves_once_it_grows_no_more_and_not_as_soon_as_it_beats_the_pool(normed: Model) -> None:
    layer = "layer2.0.conv1"
    settings = replace(
        SHARED, steps=600, check_every=6, early_steps=6, least_steps=6, gain=0.05, last_gain=0.01, window=3
    )
    results = {
        best: make(normed, layer, [request_for(normed, layer, 3, 1, Threshold(best, best, -50, 1.0))], settings)
        for best in (-40.0, 100.0)
    }
    (within,), (beyond,) = (found.values() for found in results.values())
    assert within.accepted and not beyond.accepted
    # How low the threshold lies is no reason to leave early; a set that is not accepted goes on for longer.
    (lower,) = make(normed, layer, [request_for(normed, layer, 3, 1, Threshold(-45, -45, -50, 1.0))], settings).values()
    assert lower.steps == within.steps < beyond.steps < 600
    assert within.steps % settings.check_every == 0
    # Twice the steps bring hardly more.
    more = replace(settings, steps=2 * within.steps, least_steps=600, early_steps=settings.early, early_share=1)
    (longer,) = make(normed, layer, [request_for(normed, layer, 3)], more).values()
    assert longer.steps == 2 * within.steps
    gain = (longer.activations.mean() - within.activations.mean()) / (within.activations.mean() + 50)
    assert 0 <= gain < 0.1


def test_more_steps_never_give_a_weaker_picture(normed: Model) -> None:
    layer = "layer2.0.conv1"
    # A learning rate so large that activations go up and down; as in a batch, sets advance from check to check.
    settings = replace(SHARED, check_every=4, learning_rate=2.0, early_steps=0, steps=48, gain=-1e9)
    batch = one_batch(normed, layer, request_for(normed, layer, 3), settings)
    kept, seen = [], []
    keep = batch._keep

    def listen(slot: fast._Slot, activations: np.ndarray) -> None:
        seen.append(activations.copy())
        keep(slot, activations)
        kept.append(slot.best_activations.copy())

    batch._keep = listen  # type: ignore[method-assign]
    results = [result for _ in range(12) for result in batch.advance()]
    assert len(kept) == 12 and len(results) == 1
    np.testing.assert_array_equal(kept, np.maximum.accumulate(seen, axis=0))
    # Each picture is finished as it was when it was best.
    np.testing.assert_allclose(results[0].activations, np.sort(kept[-1]), rtol=1e-5)


def one_batch(model: Model, layer: str, request: SetRequest, settings: FastSettings) -> fast._Batch:
    batch = fast._Batch(model, model.layer_map[layer], settings, 3, None, torch.float32)
    batch.fill(deque([request]))
    return batch


def test_pictures_are_driven_apart_strongly_first_then_weakly_and_last_not_if_they_fail(normed: Model) -> None:
    layer = "layer2.0.conv1"
    settings = replace(SHARED, steps=60, check_every=6, early_steps=20, least_steps=42, last_gain=-1e9)
    assert settings.early == 18

    def weights_of(threshold: Threshold) -> list[float]:
        batch = one_batch(normed, layer, request_for(normed, layer, 3, 1, threshold), settings)
        weights = []
        for _ in range(10):
            weights.append(float(batch.weight[0]))
            finished = list(batch.advance())
            if finished:
                break
            # What is kept is not of the steps in which pictures were driven apart strongly.
            assert (batch.slots[0].best is None) == (batch.slots[0].step < 18)
        return weights

    strongly, weakly = settings.early_weight, pytest.approx(settings.late_weight)
    assert weights_of(EASY) == [strongly] * 3 + [weakly] * 4
    assert weights_of(HARD) == [strongly] * 3 + [weakly] * 4 + [0.0] * 3
    assert replace(settings, steps=20, early_share=0.25).early == 0
    assert replace(settings, diversity=False).early == 0


def test_every_pixel_of_the_finished_picture_weighs_alike_over_many_views() -> None:
    settings = FastSettings(canvas=28, views=ViewRange(angle=0, scale=0))
    assert settings.views is not None and settings.margin == 4
    keys = np.arange(4000, dtype=np.uint64)
    maps = draw_views(keys, np.zeros(4000, dtype=np.int64), settings.views, settings.size, settings.canvas)
    centres = (np.arange(settings.size) + 0.5) / settings.size * 2 - 1
    # Where each pixel lies in each view's coordinates: it is seen if that is within the view.
    across, down = (np.abs((centres - maps[:, axis, 2, None]) / maps[:, axis, axis, None]) <= 1 for axis in (0, 1))
    seen = np.einsum("vy,vx->yx", down.astype(float), across.astype(float)) / len(keys)
    inner = slice(settings.margin, -settings.margin)
    assert seen[inner, inner].min() < 0.45, "corners are seen less"
    weighed = (seen * weigh_by_coverage(settings.views, settings.size, settings.canvas))[inner, inner]
    np.testing.assert_allclose(weighed, 1, atol=0.15)
    assert abs(weighed.mean() - 1) < 0.02


def test_a_corner_gets_the_gradient_that_the_middle_gets(normed: Model) -> None:
    settings = FastSettings(canvas=32, images=2, sets=1)
    batch = one_batch(normed, "layer2.0.conv1", request_for(normed, "layer2.0.conv1", 3), settings)
    gradient = torch.ones(2, 3, settings.size, settings.size)
    weighed = batch._weigh(gradient)
    assert weighed[0, 0, settings.size // 2, settings.size // 2] == 1
    assert weighed[0, 0, settings.margin, settings.margin] > 2


def test_a_single_picture_makes_a_set(normed: Model) -> None:
    layer = "layer2.0.conv1"
    request = request_for(normed, layer, 3, 1, EASY)
    (result,) = make(normed, layer, [request], replace(SHARED, images=1)).values()
    assert result.pixels.shape == (1, 32, 32, 3)
    assert result.diversity_loss == 0.0
    assert result.accepted


def test_views_of_a_network_that_cuts_patches_are_shifted_by_half_a_patch_either_way(
    transformer: Model, normed: Model
) -> None:
    assert fast.patch_side(transformer) == 16 and fast.patch_side(normed) == 1
    asked, cpu = VisualizationSettings(), torch.device("cpu")
    for model, margin in ((transformer, 16), (normed, 11)):
        own = model.card.input.size
        settings = preset_settings(asked, 9, cpu, own, fast.patch_side(model))
        assert isinstance(settings, FastSettings) and settings.margin == margin
    small = preset_settings(VisualizationSettings(canvas=80), 9, cpu, 160, 16)
    assert isinstance(small, FastSettings) and small.margin == 8, "patches shrink with the picture"


def test_the_margin_is_the_papers_share_of_the_canvas() -> None:
    assert FastSettings(canvas=32).margin == 4, "so that small pictures are shifted by whole pixels"
    assert FastSettings(canvas=224).margin == 16
    assert FastSettings(canvas=224).size == 256
    assert FastSettings(canvas=224, views=None).size == 224


@pytest.mark.parametrize(("dtype", "fused"), [(torch.float32, True), (torch.float32, False), (torch.float64, False)])
def test_a_step_is_the_optimisers_of_torch_bit_by_bit_also_after_a_slot_begins_anew(
    dtype: torch.dtype, fused: bool
) -> None:
    generator = torch.Generator().manual_seed(1)
    starts = [torch.randn(7, 5, generator=generator, dtype=dtype) for _ in range(3)]
    ours, theirs = ([start.clone().requires_grad_(True) for start in starts] for _ in range(2))
    own, other = Adam(ours, 0.05, fused=fused), torch.optim.Adam(theirs, lr=0.05, fused=fused or None)
    for step in range(12):
        if step == 5:
            own.forget(1)
            other.state.pop(theirs[1])
        for one, two in zip(ours, theirs):
            one.grad = torch.randn(7, 5, generator=generator, dtype=dtype)
            two.grad = one.grad.clone()
        own.step()
        other.step()
        assert all(torch.equal(one, two) for one, two in zip(ours, theirs))


def test_a_set_is_made_without_torchs_compiler() -> None:
    """It takes two seconds to be imported, and nothing uses it."""
    code = """
import sys, torch
from benchmark.adam import Adam
own = torch.ones(3, requires_grad=True)
own.grad = torch.ones(3)
Adam([own], 0.1, fused=True).step()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == ["False"]

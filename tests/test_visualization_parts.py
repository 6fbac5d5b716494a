"""The parts that visualisers are made of: spectra, views, similarity, networks cut off at a layer, thresholds."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn
from torch.nn import functional
from torchvision.transforms.functional import InterpolationMode, affine

from benchmark.hashing import hash_state
from benchmark.layers import Layer
from benchmark.model_zoo import Model
from benchmark.readings import PlaceReader
from benchmark.units import Unit
from stimuli.visualization import thresholds
from stimuli.visualization.diversity import _Gram, diversity_loss, features_by_picture
from stimuli.visualization.fast import Prefix, fold_batch_norms
from stimuli.visualization.parametrization import quiet_lucent, render, scale_of, start_spectrum
from stimuli.visualization.sets import SetRequest, SetResult, Threshold
from stimuli.visualization.thresholds import measure_thresholds
from stimuli.visualization.views import ViewRange, central_view, draw_views, look_at

from .conftest import paint_picture
from .tiny_models import load_tiny

CONVOLUTIONAL = ("timm:test_resnet", "timm:test_efficientnet", "timm:test_byobnet")
EVERY = (*CONVOLUTIONAL, "timm:test_convnext", "timm:test_vit")


@pytest.fixture(scope="module")
def tiny_models() -> dict[str, Model]:
    return {card: load_tiny(card) for card in EVERY}


def random_pictures(count: int, side: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- spectra


@pytest.mark.parametrize("size", [16, 21, 32, 45])
def test_the_parametrisation_is_lucents_exactly(size: int) -> None:
    with quiet_lucent():
        from lucent.optvis import param

        parameters, image_f = param.image(size, batch=3)
    spectrum = parameters[0].detach().clone()
    with torch.no_grad():
        theirs = image_f()
        # Far from the start too, where the sigmoid bends.
        parameters[0].mul_(100)
        theirs_far = image_f()
    assert start_spectrum("any", size, images=3).shape == spectrum.shape
    torch.testing.assert_close(render(spectrum, size), theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(render(100 * spectrum, size), theirs_far, rtol=0, atol=2e-5)
    assert theirs_far.std() > 0.1


def test_gradients_of_the_parametrisation_are_lucents() -> None:
    with quiet_lucent():
        from lucent.optvis import param

        parameters, image_f = param.image(20, batch=2)
    weights = torch.randn((2, 3, 20, 20), generator=torch.Generator().manual_seed(0))
    (image_f() * weights).sum().backward()
    own = parameters[0].detach().clone().requires_grad_(True)
    (render(own, 20) * weights).sum().backward()
    torch.testing.assert_close(own.grad, parameters[0].grad, rtol=1e-4, atol=1e-5)


def test_a_start_depends_on_its_key_and_number_alone() -> None:
    nine = start_spectrum("a/b/3:max", 24, images=9)
    assert torch.equal(nine[:4], start_spectrum("a/b/3:max", 24, images=4))
    torch.manual_seed(1)
    assert torch.equal(nine, start_spectrum("a/b/3:max", 24, images=9))
    assert not torch.equal(nine, start_spectrum("a/b/3:min", 24, images=9))
    assert len({tuple(picture.flatten()[:5].tolist()) for picture in nine}) == 9


def test_a_start_leaves_the_global_generator_alone_and_has_lucents_deviation() -> None:
    before = torch.get_rng_state()
    start = start_spectrum(3, 64, images=4)
    assert torch.equal(before, torch.get_rng_state())
    assert float(start.std()) == pytest.approx(0.01, rel=0.02)
    assert float(start.mean()) == pytest.approx(0.0, abs=2e-4)


def test_a_start_in_double_precision_is_the_one_in_single_precision() -> None:
    single, double = (start_spectrum("x", 18, images=2, dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert double.dtype == torch.float64
    assert torch.equal(single.double(), double)


def test_every_frequency_is_scaled_by_its_inverse_distance_from_zero() -> None:
    for size in (8, 9):
        columns = size // 2 + (2 if size % 2 else 1)
        y, x = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)[:columns], indexing="ij")
        expected = 1 / np.maximum(np.hypot(y, x), 1 / size)
        np.testing.assert_allclose(scale_of(size)[..., 0].numpy(), expected, rtol=1e-6)


# ---------------------------------------------------------------- views

KEYS = arrays(np.uint64, st.integers(1, 12), elements=st.integers(0, 2**64 - 1), unique=True)


@settings(deadline=None, max_examples=40)
@given(KEYS, st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_a_view_depends_on_key_and_step_alone(keys: NDArray[np.uint64], step: int, random: object) -> None:
    steps = np.arange(step, step + len(keys), dtype=np.int64)
    together = draw_views(keys, steps, ViewRange(), 72, 64)
    order = np.array(random.sample(range(len(keys)), len(keys)))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(draw_views(keys[order], steps[order], ViewRange(), 72, 64), together[order])
    for number in range(len(keys)):
        alone = draw_views(keys[number : number + 1], steps[number : number + 1], ViewRange(), 72, 64)
        np.testing.assert_array_equal(alone[0], together[number])


def test_views_of_other_steps_and_keys_differ() -> None:
    keys = np.arange(20, dtype=np.uint64)
    drawn = [draw_views(keys, np.full(20, step), ViewRange(), 72, 64) for step in range(20)]
    assert len({tuple(view.ravel().tolist()) for views in drawn for view in views}) == 400


def test_views_reach_as_far_as_they_may_and_no_further() -> None:
    keys = np.arange(4000, dtype=np.uint64)
    extent = ViewRange(shift=1.0, angle=5.0, scale=0.05)
    picture, view = 256, 224
    maps = draw_views(keys, np.zeros(4000, dtype=np.int64), extent, picture, view).astype(np.float64)
    angle = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    size = np.hypot(maps[:, 0, 0], maps[:, 1, 0]) * picture / view
    shift = maps[:, :, 2] * picture / 2  # in pixels
    for values, low, high in ((angle, -5, 5), (size, 0.95, 1.05), (shift, -16, 16)):
        assert values.min() >= low - 1e-4 and values.max() <= high + 1e-4
        # Uniform: the outer tenths of the range hold a tenth of the draws each.
        width = (high - low) / 10
        assert np.mean(values < low + width) == pytest.approx(0.1, abs=0.025)
        assert np.mean(values > high - width) == pytest.approx(0.1, abs=0.025)
    np.testing.assert_allclose(maps[:, 0, 0], maps[:, 1, 1])
    np.testing.assert_allclose(maps[:, 0, 1], -maps[:, 1, 0])
    assert abs(np.corrcoef(np.column_stack([angle, size, shift]).T) - np.eye(4)).max() < 0.06


def test_a_view_of_no_range_is_the_picture_without_its_margin() -> None:
    pictures = random_pictures(3, 40)
    maps = torch.from_numpy(draw_views(np.arange(3, dtype=np.uint64), np.full(3, 7), ViewRange(0.0, 0.0, 0.0), 40, 32))
    torch.testing.assert_close(look_at(pictures, maps, 32), pictures[..., 4:36, 4:36], rtol=0, atol=2e-5)
    whole = torch.from_numpy(draw_views(np.arange(3, dtype=np.uint64), np.zeros(3), ViewRange(0, 0, 0), 40, 40))
    torch.testing.assert_close(look_at(pictures, whole, 40), pictures, rtol=0, atol=2e-5)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**63),
    st.integers(0, 500),
    st.sampled_from([(40, 32, 32), (40, 32, 50), (33, 27, 27), (30, 30, 30)]),
    st.sampled_from([ViewRange(), ViewRange(1.0, 20.0, 0.2), ViewRange(1.0, 90.0, 0.0)]),
)
def test_a_view_is_what_scipy_resamples(key: int, step: int, sides: tuple[int, int, int], extent: ViewRange) -> None:
    size, view, shown = sides
    picture = random_pictures(1, size, seed=key % 1000).double()
    maps = draw_views(np.array([key], dtype=np.uint64), np.array([step]), extent, size, view)
    seen = look_at(picture, torch.from_numpy(maps).double(), shown)[0].numpy()
    centres = (2 * np.arange(shown) + 1) / shown - 1
    y, x = np.meshgrid(centres, centres, indexing="ij")
    (a, b, c), (d, e, f) = maps[0].astype(np.float64)
    rows, columns = (((d * x + e * y + f) + 1) * size - 1) / 2, (((a * x + b * y + c) + 1) * size - 1) / 2
    for channel in range(3):
        expected = ndimage.map_coordinates(picture[0, channel].numpy(), [rows, columns], order=1, mode="reflect")
        np.testing.assert_allclose(seen[channel], expected, atol=1e-9)


@pytest.mark.parametrize(("angle", "scale", "shift"), [(5.0, 1.0, (0, 0)), (0.0, 1.05, (3, -2)), (-3.0, 0.95, (4, 1))])
def test_a_view_turns_scales_and_shifts_as_torchvision_does(angle: float, scale: float, shift: tuple[int, int]) -> None:
    size, margin = 48, 8
    picture = functional.interpolate(random_pictures(1, 12), size=(size, size), mode="bicubic").clamp(0, 1)
    # torchvision's map goes from the picture to what is seen; a view's goes back.
    moved = affine(picture, angle, list(shift), scale, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR)
    radians, back = np.deg2rad(-angle), 1 / scale
    turn = back * np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    maps = np.concatenate([turn, -turn @ (2 * np.array(shift)[:, None] / size)], axis=1)[None].astype(np.float32)
    seen = look_at(picture, torch.from_numpy(maps), size)
    inner = slice(margin, size - margin)
    torch.testing.assert_close(seen[..., inner, inner], moved[..., inner, inner], rtol=0, atol=1e-4)


def test_a_finished_picture_is_cut_and_resized_only_where_it_must_be() -> None:
    pictures = random_pictures(2, 40)
    assert torch.equal(central_view(pictures, 4, 32), pictures[..., 4:36, 4:36])
    assert torch.equal(central_view(pictures, 0, 40), pictures)
    larger = central_view(pictures, 4, 64)
    assert larger.shape == (2, 3, 64, 64)
    assert float(larger.mean()) == pytest.approx(float(pictures[..., 4:36, 4:36].mean()), abs=2e-3)


# ---------------------------------------------------------------- diversity


def similarity_by_hand(features: torch.Tensor) -> torch.Tensor:
    """Return the mean inner product of Frobenius-normalised Gram matrices over ordered pairs, pair by pair."""
    losses = []
    for pictures in features:
        grams = [picture.T @ picture for picture in pictures]
        grams = [gram / gram.square().sum().sqrt() for gram in grams]
        count = len(grams)
        total = sum((grams[i] * grams[j]).sum() for i in range(count) for j in range(count) if i != j)
        losses.append(total / (count * (count - 1)))
    return torch.stack(losses)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(2, 5), st.integers(1, 20), st.integers(1, 20), st.integers(0, 999), st.booleans())
def test_similarity_is_the_mean_over_pairs_of_normalised_gram_matrices(
    sets: int, images: int, positions: int, channels: int, seed: int, positive: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((sets, images, positions, channels), generator=generator, dtype=torch.float64)
    values = values.abs() if positive else values
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        ours = values.to(dtype, copy=True).requires_grad_(True)
        by_hand = values.clone().requires_grad_(True)
        alike, expected = diversity_loss(ours), similarity_by_hand(by_hand)
        assert alike.shape == (sets,)
        torch.testing.assert_close(alike.double(), expected, rtol=0, atol=tolerance)
        weights = torch.arange(1.0, sets + 1, dtype=torch.float64)
        (alike * weights.to(dtype)).sum().backward()
        (expected * weights).sum().backward()
        scale = max(1.0, float(by_hand.grad.abs().max()))
        torch.testing.assert_close(ours.grad.double() / scale, by_hand.grad / scale, rtol=0, atol=20 * tolerance)


@pytest.mark.parametrize(("positions", "channels", "by_channels"), [(60, 4, True), (4, 60, False)])
def test_both_ways_of_computing_similarity_are_taken_and_agree_with_pairs(
    positions: int, channels: int, by_channels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.Size] = []
    plain = _Gram.apply

    def counted(features: torch.Tensor) -> torch.Tensor:
        calls.append(features.shape)
        return plain(features)

    monkeypatch.setattr(_Gram, "apply", staticmethod(counted))
    features = torch.randn((2, 4, positions, channels), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(diversity_loss(features), similarity_by_hand(features), rtol=0, atol=1e-5)
    assert bool(calls) is by_channels


def test_the_gradient_of_gram_matrices_is_right_for_any_gradient_behind_them() -> None:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn((2, 3, 5, 4), generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Gram.apply, (features,))
    # A gradient that is not symmetric: only then does leaving its transpose out show.
    weights = torch.randn((2, 3, 4, 4), generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: (_Gram.apply(x) * weights).sum(), (features,))


def test_similarity_is_one_for_equal_pictures_and_zero_for_unrelated_ones() -> None:
    features = torch.randn((1, 1, 7, 5), generator=torch.Generator().manual_seed(0)).expand(1, 4, 7, 5)
    torch.testing.assert_close(diversity_loss(features), torch.ones(1))
    # Scaling a picture's features changes nothing, nor does the order of positions.
    scaled = features * torch.tensor([1.0, 2.0, 0.1, 30.0]).view(1, 4, 1, 1)
    torch.testing.assert_close(diversity_loss(scaled.flip(2)), torch.ones(1))
    apart = torch.zeros((1, 3, 6, 3))
    for number in range(3):
        apart[0, number, :, number] = 1.0
    torch.testing.assert_close(diversity_loss(apart), torch.zeros(1))


def test_silent_features_have_no_similarity_and_no_gradient() -> None:
    for shape in ((2, 3, 20, 4), (2, 3, 4, 20)):
        features = torch.zeros(shape, requires_grad=True)
        alike = diversity_loss(features)
        alike.sum().backward()
        assert torch.equal(alike.detach(), torch.zeros(2))
        assert torch.equal(features.grad, torch.zeros(shape))


def test_a_single_picture_is_like_nothing() -> None:
    assert torch.equal(diversity_loss(torch.ones((3, 1, 4, 4))), torch.zeros(3))


def test_one_sets_similarity_does_not_depend_on_the_others() -> None:
    features = torch.randn((3, 4, 10, 6), generator=torch.Generator().manual_seed(1))
    other = features.clone()
    other[[0, 2]] = torch.randn((2, 4, 10, 6), generator=torch.Generator().manual_seed(9))
    assert torch.equal(diversity_loss(features)[1], diversity_loss(other)[1])


def test_features_are_laid_out_by_picture_whatever_the_layout_of_the_tensor() -> None:
    maps = torch.randn((4, 5, 3, 2), generator=torch.Generator().manual_seed(0))
    expected = maps.permute(0, 2, 3, 1).reshape(4, 6, 5)
    assert torch.equal(features_by_picture(maps, 1, 4), expected)
    assert torch.equal(features_by_picture(maps.contiguous(memory_format=torch.channels_last), 1, 4), expected)
    assert torch.equal(features_by_picture(maps.permute(0, 2, 3, 1), 3, 4), expected)
    assert torch.equal(features_by_picture(expected, 2, 4), expected)
    # Two windows a picture, side by side in the batch.
    assert torch.equal(features_by_picture(expected.reshape(8, 3, 5), 2, 4), expected)
    assert features_by_picture(torch.ones((4, 5)), 1, 4).shape == (4, 1, 5)


# ---------------------------------------------------------------- networks up to a layer


def tensors_at_layers(model: Model, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return every layer's tensor from one whole forward pass; copied, before an activation overwrites it."""
    seen: dict[str, torch.Tensor] = {}
    handles = []
    for layer in model.layer_map.layers:

        def keep(tensor: torch.Tensor, name: str = layer.name) -> None:
            assert name not in seen
            seen[name] = tensor.clone()

        target = model.module.get_submodule(layer.place.module)
        if layer.place.port == "input":
            handles.append(target.register_forward_pre_hook(lambda _, arguments, keep=keep: keep(arguments[0])))
        else:
            handles.append(target.register_forward_hook(lambda _, arguments, out, keep=keep: keep(out)))
    with torch.no_grad():
        model.module(model.normalize(pictures))
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("card", EVERY)
def test_folding_batch_norms_and_stopping_early_leaves_every_layer_as_it_was(
    card: str, tiny_models: dict[str, Model]
) -> None:
    model = tiny_models[card]
    side = 48
    pictures = random_pictures(2, side)
    before = hash_state(model.module.state_dict())
    whole = tensors_at_layers(model, pictures)
    for number, layer in enumerate(model.layer_map.layers):
        expected = whole[layer.name]
        if number % 3:
            continue
        prefix = Prefix(model, layer, side, fold=True, dtype=torch.float32)
        with torch.no_grad():
            tensor = prefix.features(pictures)
            units = prefix.activations(tensor, 2)
        tolerance = 1e-5 * float(expected.abs().max()) + 1e-6
        torch.testing.assert_close(tensor, expected, rtol=0, atol=tolerance, msg=layer.name)
        spread = [d for d in range(expected.ndim) if d not in (0, layer.place.axis)]
        means = expected.mean(spread) if spread else expected
        torch.testing.assert_close(units, means, rtol=0, atol=tolerance, msg=layer.name)
    assert hash_state(model.module.state_dict()) == before


@pytest.mark.parametrize("card", CONVOLUTIONAL)
def test_folding_takes_every_batch_norm_out_that_a_convolution_feeds(card: str, tiny_models: dict[str, Model]) -> None:
    model = tiny_models[card]
    norms = [name for name, m in model.module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 8
    layer = model.layer_map.layers[-1]
    folded = fold_batch_norms(model, layer)
    spared = (layer.name, layer.place.module, layer.place.module.rpartition(".")[0])
    for convolution, norm in model.layer_map.foldable:
        kept = isinstance(folded.get_submodule(norm), nn.modules.batchnorm._BatchNorm)
        assert kept is (norm in spared or convolution in spared), norm
    assert [
        name for name, m in model.module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ] == norms, "the model itself was changed"


def test_folding_copies_nothing_that_it_does_not_change(tiny_models: dict[str, Model]) -> None:
    """A copy of a large network for every layer would take as much memory again, and most of a small build's time."""
    model = tiny_models["timm:test_resnet"]
    folded = fold_batch_norms(model, model.layer_map.layers[-1])
    changed = {
        name.rpartition(".")[0] for pair in model.layer_map.foldable for name in (f"{own}.weight" for own in pair)
    }
    own = dict(model.module.named_parameters())
    shared = [name for name, weight in folded.named_parameters() if weight is own.get(name)]
    assert shared == [name for name, _ in folded.named_parameters() if name.rpartition(".")[0] not in changed] != []
    assert folded.get_submodule("layer1.0.conv1") is not model.module.get_submodule("layer1.0.conv1")
    vit = tiny_models["timm:test_vit"]
    assert fold_batch_norms(vit, vit.layer_map.layers[-1]) is vit.module


def test_a_layer_that_is_a_convolution_or_batch_norm_keeps_its_own_values(tiny_models: dict[str, Model]) -> None:
    model = tiny_models["timm:test_resnet"]
    for name in ("layer2.0.conv1", "layer2.0.bn1"):
        folded = fold_batch_norms(model, model.layer_map[name])
        for part in ("layer2.0.conv1", "layer2.0.bn1"):
            own, theirs = model.module.get_submodule(part), folded.get_submodule(part)
            assert type(own) is type(theirs)
            assert torch.equal(own.weight, theirs.weight)
        assert not isinstance(folded.get_submodule("layer1.0.bn1"), nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ("timm:test_resnet", "layer2.0.conv1"),
        ("timm:test_resnet", "layer2.0.add"),
        ("timm:test_efficientnet", "blocks.2.0.bn1"),
        ("timm:test_vit", "blocks.2.attn.qkv"),
        ("timm:test_vit", "blocks.2.add1"),
        ("timm:test_convnext", "stages.1.blocks.0.mlp.fc1"),
    ],
)
@pytest.mark.parametrize("fold", [True, False])
def test_nothing_behind_the_layer_is_ever_called(
    card: str, name: str, fold: bool, tiny_models: dict[str, Model]
) -> None:
    model = tiny_models[card]
    layer = model.layer_map[name]
    side = 48
    called: list[str] = []
    watched = copy.deepcopy(model.module)
    for inner, module in watched.named_modules():
        module.register_forward_pre_hook(lambda *_, inner=inner: called.append(inner))
    spied = Model(model.card, watched, model.layer_map, model.weights_hash, model.device)
    with torch.no_grad():
        watched(random_pictures(1, side))
    whole = list(called)
    first = whole.index(layer.place.module)
    if layer.place.port == "output" and list(watched.get_submodule(layer.place.module).children()):
        inside = [n for n, called_name in enumerate(whole) if called_name.startswith(layer.place.module + ".")]
        first = max(inside)
    behind = set(whole[first + 1 :]) - set(whole[: first + 1])
    assert len(behind) > 5
    prefix = Prefix(spied, layer, side, fold=fold, dtype=torch.float32)
    called.clear()
    prefix.features(random_pictures(1, side))
    assert layer.place.module in called
    assert not behind & set(called)


def test_no_hook_stays_behind(tiny_models: dict[str, Model]) -> None:
    model = tiny_models["timm:test_resnet"]
    prefix = Prefix(model, model.layer_map["layer2.0.conv1"], 48, fold=False, dtype=torch.float32)
    prefix.features(random_pictures(1, 48))
    for module in model.module.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_parameters_get_no_gradient_and_pictures_do(tiny_models: dict[str, Model]) -> None:
    model = tiny_models["timm:test_resnet"]
    prefix = Prefix(model, model.layer_map["layer2.0.bn2"], 48, dtype=torch.float32)
    pictures = random_pictures(1, 48).requires_grad_(True)
    prefix.features(pictures).sum().backward()
    assert pictures.grad is not None and float(pictures.grad.abs().max()) > 0
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_a_network_that_takes_only_its_own_size_is_shown_that_size(tiny_models: dict[str, Model]) -> None:
    vit, resnet = tiny_models["timm:test_vit"], tiny_models["timm:test_resnet"]
    # This ViT takes whole patches of 16 pixels only.
    for canvas, side in ((50, 160), (48, 48), (160, 160)):
        assert Prefix(vit, vit.layer_map["blocks.1.mlp.fc1"], canvas, dtype=torch.float32).side == side
    assert Prefix(resnet, resnet.layer_map["layer2.0.conv1"], 48, dtype=torch.float32).side == 48


def test_a_network_in_double_precision_leaves_the_model_in_single(tiny_models: dict[str, Model]) -> None:
    model = tiny_models["timm:test_resnet"]
    prefix = Prefix(model, model.layer_map["layer2.0.conv1"], 48, fold=False, dtype=torch.float64)
    assert prefix.features(random_pictures(1, 48).double()).dtype == torch.float64
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}


# ---------------------------------------------------------------- thresholds

CANVAS = 40
POOL = 40


@pytest.fixture(scope="module")
def small_pool() -> NDArray[np.uint8]:
    """A pool at the canvas, shape (pictures, 3, canvas, canvas)."""
    return np.stack([paint_picture(number, CANVAS, CANVAS).transpose(2, 0, 1) for number in range(POOL)])


def pool_activations(model: Model, layer: Layer, pool: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a layer's activations by whole forward passes over a pool."""
    with PlaceReader(model.module, [layer.place]) as reader:
        return reader.read_places(model.prepare(torch.from_numpy(pool)))[0].numpy()


def test_thresholds_of_a_small_pool_are_those_of_all_its_pictures_at_the_canvas(
    tiny_models: dict[str, Model], small_pool: NDArray[np.uint8]
) -> None:
    model = tiny_models["timm:test_efficientnet"]
    layer = model.layer_map["blocks.2.0.bn2"]
    units = [Unit(model.name, layer.name, index) for index in (3, 0, 17)]
    exact = pool_activations(model, layer, small_pool)[:, [3, 0, 17]].astype(np.float64)
    # At the pool's own crop, which is larger than the canvas, activations were others.
    generator = np.random.default_rng(0)
    columns = list((exact + generator.normal(0, exact.std(0) / 3, exact.shape)).T.astype(np.float32))
    prefix = Prefix(model, layer, CANVAS, dtype=torch.float32)
    requests = measure_thresholds(prefix, units, columns, lambda row: small_pool[row], canvas=CANVAS, seed=1)
    assert [(request.unit, request.sign) for request in requests] == [(unit, s) for unit in units for s in (1, -1)]
    for request in requests:
        number = units.index(request.unit)
        signed = request.sign * exact[:, number]
        strongest = np.argsort(request.sign * columns[number].astype(np.float64))[-thresholds.STRONGEST :]
        expected = (signed.max(), np.median(signed[strongest]), np.median(signed), signed.std())
        found = request.threshold
        measured = (found.best, found.median_reference, found.middle, found.deviation)
        np.testing.assert_allclose(measured, expected, rtol=1e-4, atol=1e-5)


def test_thresholds_follow_the_canvas(tiny_models: dict[str, Model], small_pool: NDArray[np.uint8]) -> None:
    model = tiny_models["timm:test_resnet"]
    layer = model.layer_map["layer3.0.conv1"]
    units = [Unit(model.name, layer.name, 5)]
    column = pool_activations(model, layer, small_pool)[:, 5]
    found = {}
    for canvas in (CANVAS, CANVAS // 2):
        shown = small_pool[..., :canvas, :canvas]
        prefix = Prefix(model, layer, canvas, dtype=torch.float32)
        (most, least) = measure_thresholds(prefix, units, [column], shown.__getitem__, canvas=canvas, seed=1)
        values = pool_activations(model, layer, shown)[:, 5]
        assert most.threshold.best == pytest.approx(values.max(), rel=1e-4)
        assert least.threshold.best == pytest.approx(-values.min(), rel=1e-4)
        found[canvas] = most.threshold.best
    assert found[CANVAS] != pytest.approx(found[CANVAS // 2], rel=1e-3)


def test_thresholds_of_a_network_that_takes_only_its_own_size_are_measured_as_its_pictures_are_shown(
    tiny_models: dict[str, Model], small_pool: NDArray[np.uint8]
) -> None:
    model = tiny_models["timm:test_vit"]
    layer = model.layer_map["blocks.1.mlp.fc1"]
    enlarged = central_view(torch.from_numpy(small_pool).float() / 255, 0, 160)
    with torch.no_grad():
        values = Prefix(model, layer, 160, dtype=torch.float32)
        exact = values.activations(values.features(enlarged), POOL)[:, 9].numpy()
    requests = measure_thresholds(
        Prefix(model, layer, CANVAS, dtype=torch.float32), [Unit(model.name, layer.name, 9)], [exact],
        lambda row: small_pool[row], canvas=CANVAS, seed=1,
    )  # fmt: skip
    assert requests[0].threshold.best == pytest.approx(exact.max(), rel=1e-4)
    assert requests[1].threshold.best == pytest.approx(-exact.min(), rel=1e-4)


def test_a_large_pool_is_measured_at_its_extremes_and_a_sample_only(
    tiny_models: dict[str, Model], small_pool: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "STRONGEST", 4)
    monkeypatch.setattr(thresholds, "TYPICAL", 7)
    model = tiny_models["timm:test_resnet"]
    layer = model.layer_map["layer2.0.conv1"]
    exact = pool_activations(model, layer, small_pool)
    unit = Unit(model.name, layer.name, 2)
    read: list[int] = []

    def spy(row: int) -> NDArray[np.uint8]:
        read.append(row)
        return small_pool[row]

    prefix = Prefix(model, layer, CANVAS, dtype=torch.float32)
    most, least = measure_thresholds(prefix, [unit], [exact[:, 2]], spy, canvas=CANVAS, seed=1)
    assert most.threshold.best == pytest.approx(exact[:, 2].max(), rel=1e-5)
    assert least.threshold.best == pytest.approx(-exact[:, 2].min(), rel=1e-5)
    order = exact[:, 2].argsort()
    assert {*order[:4].tolist(), *order[-4:].tolist()} <= set(read)
    assert len(read) == len(set(read)) <= 15
    assert most.threshold.median_reference == pytest.approx(np.median(exact[order[-4:], 2]), rel=1e-4)


def test_a_units_threshold_does_not_depend_on_which_other_units_are_asked_for(
    tiny_models: dict[str, Model], small_pool: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "STRONGEST", 2)
    monkeypatch.setattr(thresholds, "TYPICAL", 3)
    model = tiny_models["timm:test_resnet"]
    layer = model.layer_map["layer2.0.conv1"]
    # Activations over the pool's own crops, which only hint at those at the canvas.
    columns = list(np.random.default_rng(3).normal(size=(12, POOL)).astype(np.float32))
    units = [Unit(model.name, layer.name, index) for index in range(12)]
    prefix = Prefix(model, layer, CANVAS, dtype=torch.float32)

    def measure(chosen: list[int]) -> dict[str, Threshold]:
        requests = measure_thresholds(
            prefix, [units[n] for n in chosen], [columns[n] for n in chosen],
            lambda row: small_pool[row], canvas=CANVAS, seed=1,
        )  # fmt: skip
        return {request.name: request.threshold for request in requests}

    together = measure(list(range(12)))
    for number in range(12):
        for name, threshold in measure([number]).items():
            assert together[name].best == pytest.approx(threshold.best, rel=1e-5)
            assert together[name].deviation == pytest.approx(threshold.deviation, rel=1e-4)


# ---------------------------------------------------------------- sets


@pytest.mark.parametrize(
    "threshold",
    [
        Threshold(best=4.0, median_reference=3.0, middle=1.0, deviation=0.5),
        Threshold(best=-1.0, median_reference=-2.0, middle=-5.0, deviation=2.0),
    ],
)
def test_ratios_are_counted_from_the_middle_of_the_pool(threshold: Threshold) -> None:
    assert threshold.over_best(threshold.best) == pytest.approx(1)
    assert threshold.over_best(threshold.middle) == pytest.approx(0)
    assert threshold.over_median(threshold.median_reference) == pytest.approx(1)
    assert threshold.over_median(threshold.middle) == pytest.approx(0)
    assert threshold.margin(threshold.best) == 0
    assert threshold.margin(threshold.best + 3 * threshold.deviation) == pytest.approx(3)


def test_a_pool_without_spread_gives_finite_ratios() -> None:
    flat = Threshold(2.0, 2.0, 2.0, 0.0)
    assert flat.span > 0
    assert np.isfinite([flat.over_best(2.5), flat.over_median(2.5), flat.margin(2.5)]).all()


@pytest.mark.parametrize(("weakest", "accepted"), [(1.0, False), (np.nextafter(1.0, 2), True), (0.5, False)])
def test_a_set_is_accepted_if_its_weakest_picture_beats_the_best_natural_one(weakest: float, accepted: bool) -> None:
    request = SetRequest(Unit("m", "l", 0), -1, Threshold(1.0, 0.5, 0.0, 0.5))
    activations = np.array([weakest, 5.0, 9.0])
    result = SetResult(request, np.zeros((3, 4, 4, 3), dtype=np.uint8), activations, 0.0, 1, 0.0)
    assert result.accepted is accepted
    assert request.name.endswith(":min") and request.side == "min"

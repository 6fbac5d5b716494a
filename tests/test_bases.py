"""Bases: what they encode, what they learn, and that their latents are read in the pass that reads the neurons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmark.bases import CONTROLS, KINDS, BasisName, parse_basis, read_basis
from benchmark.bases.base import Basis, BasisCard
from benchmark.bases.learning import LayerMoments, Learner, LearningSettings
from benchmark.bases.ordered import OrderedLearner
from benchmark.bases.sparse import keep_largest
from benchmark.bases.topk import TopKLearner
from benchmark.errors import BasisError, NameNotFound
from benchmark.model_zoo import Model
from benchmark.readings import forward_to, replaced
from benchmark.units import Unit, check_unit, draw_units
from stimuli.dictionaries.quality import match_atoms, measure_quality


def card(kind: str = "topk", dimensions: int = 64, width: int = 256, k: int | None = 4, **changes: Any) -> BasisCard:
    values: dict[str, Any] = {"name": f"{kind}-{width}", "kind": kind, "model": "tiny", "layer": "l"}
    return BasisCard(**values | {"dimensions": dimensions, "width": width, "k": k, **changes})


def learn(positions: torch.Tensor, own: BasisCard, **settings: Any) -> Basis:
    """Fit a basis to positions that are all in memory."""
    centre = positions.mean(0)
    moments = LayerMoments(centre, (positions - centre).square().mean().sqrt())
    kind = KINDS[own.kind].learner
    assert kind is not None
    learner: Learner = kind(own, LearningSettings(**settings), moments)
    size = learner.settings.batch_size
    total = learner.epochs * (len(positions) // size)
    step = 0
    for epoch in range(learner.epochs):
        order = torch.from_numpy(np.random.default_rng([own.seed, epoch]).permutation(len(positions)))
        for start in range(0, len(positions) - size + 1, size):
            learner.learn(positions[order[start : start + size]], step / total)
            step += 1
    return learner.finish()


def plant(atoms: int = 256, dimensions: int = 64, active: int = 4, count: int = 40_000) -> tuple[torch.Tensor, ...]:
    """Return unit-norm atoms, and samples in which a few of them are active."""
    draw = np.random.default_rng(7)
    directions = draw.standard_normal((atoms, dimensions))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    which = draw.random((count, atoms)).argpartition(active, axis=1)[:, :active]
    values = draw.uniform(0.5, 1.5, which.shape)
    samples = (values[..., None] * directions[which]).sum(1) + 0.01 * draw.standard_normal((count, dimensions))
    return torch.from_numpy(directions).float(), torch.from_numpy(samples).float()


@pytest.fixture(scope="module")
def planted() -> tuple[torch.Tensor, ...]:
    """A dictionary with a known truth."""
    return plant()


@pytest.mark.parametrize("kind", ["topk", "ordered"])
def test_planted_atoms_are_found(planted: tuple[torch.Tensor, ...], kind: str) -> None:
    atoms, samples = planted
    found = learn(samples, card(kind, width=512), epochs=8, learning_rate=5e-3)
    assert (match_atoms(atoms, found.directions) >= 0.9).mean() >= 0.9
    assert measure_quality(found, [samples[:5000]]).r2 > 0.85


def test_a_random_decoder_finds_no_atom(planted: tuple[torch.Tensor, ...]) -> None:
    atoms, samples = planted
    found = learn(samples, card(control="frozen_decoder"), epochs=1)
    assert (match_atoms(atoms, found.directions) >= 0.9).mean() == 0


def test_controls_leave_their_part_random(planted: tuple[torch.Tensor, ...]) -> None:
    samples = planted[1][:20_000]
    start = learn(samples, card(), epochs=0)
    cosine = {
        name: (
            torch.nn.functional.cosine_similarity(made.tensors["decoder"], start.tensors["decoder"]).min().item(),
            torch.equal(made.tensors["encoder"], start.tensors["encoder"]),
        )
        for name in ("", *CONTROLS)
        if name != "other_seed"
        for made in (learn(samples, card(control=name), epochs=4, learning_rate=1e-2),)
    }
    assert cosine["frozen_decoder"] == (pytest.approx(1), False)
    assert 0.8 - 1e-5 <= cosine["soft_frozen_decoder"][0] < 0.95
    assert cosine["frozen_encoder"][0] < 0.9 and cosine["frozen_encoder"][1]
    assert cosine[""][0] < 0.8 and not cosine[""][1]
    other = learn(samples, card(control="other_seed", seed=1), epochs=0)
    assert not torch.equal(other.tensors["decoder"], start.tensors["decoder"])


@pytest.mark.parametrize("kind", [TopKLearner, OrderedLearner])
def test_written_gradients_are_those_of_autograd(kind: type[TopKLearner]) -> None:
    """The loss of an ordered dictionary is averaged over each position's own prefixes: brute force, one by one."""
    own = card(kind.dictionary.kind, dimensions=6, width=12, k=3)
    learner = kind(own, LearningSettings(), LayerMoments(torch.zeros(6), torch.ones(())))
    inputs = torch.from_numpy(np.random.default_rng(1).standard_normal((5, 6))).float()
    responses = torch.addmm(learner.bias, inputs, learner.encoder.T)
    values, places = responses.relu().topk(3, dim=1)
    _, into_values, into_decoder = learner.gradients(inputs, values, places)

    free, decoder = values.clone().requires_grad_(), learner.decoder.clone().requires_grad_()
    loss = torch.zeros(())
    for row in range(5):
        order = sorted(range(3), key=lambda place: int(places[row, place]))
        active = [place for place in order if values[row, place] > 0]
        if kind is TopKLearner:
            loss = loss + ((free[row] @ decoder[places[row]]) - inputs[row]).square().sum()
            continue
        for end in range(1, len(active) + 1):
            partial = sum(free[row, place] * decoder[places[row, place]] for place in active[:end])
            loss = loss + (partial - inputs[row]).square().sum() / len(active)
    (loss / inputs.numel()).backward()
    assert free.grad is not None and decoder.grad is not None
    active_only = values > 0
    assert torch.allclose(into_values[active_only], free.grad[active_only], atol=1e-6)
    assert torch.allclose(into_decoder, decoder.grad, atol=1e-6)


def test_the_largest_responses_are_kept_and_nothing_negative() -> None:
    kept = keep_largest(torch.tensor([[3.0, -5.0, 1.0, 2.0], [-1.0, -2.0, 4.0, -3.0]]), 2)
    assert kept.tolist() == [[3, 0, 0, 2], [0, 0, 4, 0]]


def test_an_ordered_dictionary_is_worth_most_at_its_beginning(planted: tuple[torch.Tensor, ...]) -> None:
    samples = planted[1][:40_000]
    prefixes = {
        kind: list(measure_quality(learn(samples, card(kind), epochs=3), [samples[:4000]]).prefix_r2.values())
        for kind in ("topk", "ordered")
    }
    assert prefixes["ordered"] == sorted(prefixes["ordered"])
    assert prefixes["ordered"][0] > prefixes["topk"][0]


def test_linear_bases_lose_nothing_and_are_ordered_by_variance() -> None:
    draw = np.random.default_rng(4)
    samples = torch.from_numpy(draw.standard_normal((5000, 8)) * np.arange(1, 9) @ draw.standard_normal((8, 8))).float()
    rotation = learn(samples, card("rotation", 8, 8, None))
    components = learn(samples, card("pca", 8, 8, None))
    for basis in (rotation, components):
        assert torch.allclose(basis.decode(basis.encode(samples)), samples, atol=1e-3)
        assert torch.allclose(basis.directions @ basis.directions.T, torch.eye(8), atol=1e-5)
    variances = components.encode(samples).var(0)
    assert (variances[:-1] >= variances[1:] * 0.999).all()
    exact = np.linalg.eigvalsh(np.cov(samples.numpy().T))[::-1]
    assert variances.numpy() == pytest.approx(exact, rel=1e-3)


# ---------------------------------------------------------------- names and files


def test_names() -> None:
    assert parse_basis("topk-1024-frozen_decoder") == BasisName("topk", 1024, "frozen_decoder")
    assert str(parse_basis("ordered-64")) == "ordered-64" and parse_basis("rotation") == BasisName("rotation")
    assert parse_basis("topk-64-other_seed").original == BasisName("topk", 64)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("tokp-64", NameNotFound, "'topk'"),
        ("topk", BasisError, "topk-1024"),
        ("rotation-64", BasisError, "'rotation' alone"),
        ("pca-32-frozen_decoder", BasisError, "only dictionaries"),
        ("topk-64-frozen_encodr", NameNotFound, "'frozen_encoder'"),
        ("topk-64-other_seed-more", BasisError, "is no basis"),
    ],
)
def test_wrong_names_say_what_is_right(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_basis(name)


def test_a_basis_comes_back_from_its_file(tmp_path: Path) -> None:
    made = learn(plant(16, 8, 2, 4096)[1], card(dimensions=8, width=16, k=2), epochs=1)
    path = tmp_path / "basis.safetensors"
    made.write(path)
    back = read_basis(path)
    positions = plant(16, 8, 2, 50)[1]
    assert back.card == made.card and back.weights_hash == made.weights_hash
    assert torch.equal(back.encode(positions), made.encode(positions))


def test_files_that_are_no_basis_are_named(tmp_path: Path) -> None:
    own = card(dimensions=8, width=16, k=2)
    good = learn(plant(16, 8, 2, 4096)[1], own, epochs=0)
    missing = {name: tensor for name, tensor in good.tensors.items() if name != "bias"}
    for tensors, message in (
        (missing, "lacks the tensor 'bias'"),
        (good.tensors | {"encoder": torch.zeros(16, 9)}, r"shape \(16, 9\)"),
        (good.tensors | {"decoder": torch.full((16, 8), torch.nan)}, "NaN"),
    ):
        path = tmp_path / "bad.safetensors"
        save_file(tensors, path, {"card": own.model_dump_json()})
        with pytest.raises(BasisError, match=message):
            read_basis(path)
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(BasisError, match="has no card"):
        read_basis(tmp_path / "other.safetensors")
    (tmp_path / "pickled.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(BasisError, match="can't be read as safetensors"):
        read_basis(tmp_path / "pickled.safetensors")
    with pytest.raises(BasisError, match="There is no basis file"):
        read_basis(tmp_path / "nothing.safetensors")


# ---------------------------------------------------------------- latents beside neurons


def dictionary(model: Model, layer: str, name: str = "topk-32", seed: int = 0) -> Basis:
    """Return a dictionary of a layer that has learned nothing."""
    own = model.layer_map[layer]
    made = card(
        dimensions=own.width, width=32, k=4, name=name, model=model.name, layer=layer, seed=seed,
        model_weights=model.weights_hash, one_sided=True,
    )  # fmt: skip
    return learn(
        torch.from_numpy(np.random.default_rng(seed).standard_normal((600, own.width))).float(), made, epochs=0
    )


@pytest.mark.parametrize(("fixture", "layer"), [("resnet", "layer3.0.add"), ("vit", "blocks.1.mlp.fc1")])
def test_latents_are_those_of_a_plain_loop_and_neurons_stay(
    fixture: str, layer: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Model = request.getfixturevalue(fixture)
    bases = [dictionary(model, layer), dictionary(model, layer, "topk-32-other_seed", 1)]
    extended = model.with_bases(bases)
    side = model.card.input.size
    pictures = torch.randn((3, 3, side, side), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("benchmark.readings.LATENT_BYTES", 1)  # a picture at a time
    calls: list[int] = []
    handle = model.module.register_forward_hook(lambda *_: calls.append(1))
    with model.reader() as reader:
        neurons = reader.read(pictures)
    with extended.reader() as reader:
        columns = reader.read(pictures)
    handle.remove()
    assert len(calls) == 2  # one pass for the plain reader, one for the other, whatever the number of bases
    assert torch.equal(columns[:, : neurons.shape[1]], neurons)
    place = model.layer_map[layer].place
    with torch.inference_mode():
        tensor = forward_to(model.module, place)(pictures)
    for basis in bases:
        own = extended.layer_map[basis.card.space]
        for picture in range(3):
            positions = tensor[picture].movedim(place.axis - 1, -1).reshape(-1, tensor.shape[place.axis])
            latents = torch.stack([basis.encode(position[None])[0] for position in positions])
            assert torch.allclose(columns[picture, own.columns], latents.mean(0), atol=1e-5)


def test_units_of_a_basis_are_drawn_and_named(resnet: Model) -> None:
    extended = resnet.with_bases([dictionary(resnet, "layer3.0.add")])
    units = draw_units(resnet.name, extended.layer_map, rule="canonical", count=8, seed=3, basis="topk-32")
    assert len(set(units)) == 8 and all(unit.layer == "layer3.0.add" for unit in units)
    assert Unit.parse(str(units[0])) == units[0] and "@topk-32/" in str(units[0])
    check_unit(units[0], extended.layer_map)
    with pytest.raises(NameNotFound, match="has units 0 to 31"):
        check_unit(Unit(resnet.name, "layer3.0.add", 32, "topk-32"), extended.layer_map)
    neurons = draw_units(resnet.name, extended.layer_map, rule="canonical", count=8, seed=3)
    assert neurons == draw_units(resnet.name, resnet.layer_map, rule="canonical", count=8, seed=3)


def test_any_module_can_be_a_layer(resnet: Model) -> None:
    further = resnet.with_layer("layer3")
    layer = further.layer_map["layer3"]
    assert layer.place.module == "layer3" and layer.depth == further.layer_map["layer3.0.add"].depth
    side = resnet.card.input.size
    pictures = torch.randn((2, 3, side, side), generator=torch.Generator().manual_seed(1))
    with resnet.reader() as reader:
        before = reader.read(pictures)
    with further.reader() as reader:
        after = reader.read(pictures)
    with torch.inference_mode():
        own = resnet.module.get_submodule("layer3")(
            forward_to(resnet.module, layer.place.__class__("layer3", "input", 1))(pictures)
        )
    assert torch.allclose(after[:, layer.columns], own.mean((2, 3)), atol=1e-6)
    for name in ("layer1.0.conv1", "layer4.0.add"):
        one, other = resnet.layer_map[name], further.layer_map[name]
        assert torch.equal(before[:, one.columns], after[:, other.columns])
    with pytest.raises(NameNotFound, match="layer3"):
        resnet.with_layer("layer33")


def test_a_basis_of_another_layer_or_other_weights_is_refused(resnet: Model, vit: Model) -> None:
    own = dictionary(resnet, "layer3.0.add")
    with pytest.raises(BasisError, match="dimensions"):
        resnet.with_bases([own.with_card(layer="layer1.0.add")])
    with pytest.raises(BasisError, match="other weights"):
        resnet.with_bases([own.with_card(model_weights="0" * 32)])
    with pytest.raises(NameNotFound, match="layer"):
        vit.with_bases([own])


@pytest.mark.parametrize("port", ["output", "input"])
def test_a_replaced_tensor_is_what_comes_behind(resnet: Model, port: str) -> None:
    place = resnet.layer_map["layer3.0.add"].place.__class__("layer4", port, 1)  # type: ignore[arg-type]
    side = resnet.card.input.size
    pictures = torch.randn((2, 3, side, side), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        before = resnet.module(pictures)
        with replaced(resnet.module, place, lambda tensor: tensor):
            assert torch.equal(resnet.module(pictures), before)
        with replaced(resnet.module, place, torch.zeros_like):
            changed = resnet.module(pictures)
        assert torch.equal(resnet.module(pictures), before)
    assert torch.allclose(changed[0], changed[1]) and not torch.allclose(changed, before)

"""Predicted cost of a build, measured on this machine with a few pictures before anything is built."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch

from benchmark.device import choose_device, prepare_torch
from benchmark.experiment import Experiment
from benchmark.model_card import TWIN_SUFFIX
from benchmark.model_zoo import Model, load_model
from benchmark.progress import Reporter
from benchmark.protocol import Protocol
from benchmark.trials import planned_sessions
from benchmark.units import draw_units, reserve
from stimuli.activations import BATCH_ON_ACCELERATOR, BATCH_ON_CPU
from stimuli.image_store import LOSSLESS
from stimuli.loading import decoding_threads, model_pixels
from stimuli.materials import has_twin, resolve_card
from stimuli.pictures import canonical_crop
from stimuli.planted import scores
from stimuli.pool_sources import open_pool
from stimuli.pools import Pool
from stimuli.stage_costs import activation_bytes, keeping_seconds, steps_of_sets, synthetic_bytes
from stimuli.synthetic import canvas_warning, preset_settings
from stimuli.visualization import fast
from stimuli.visualization.sets import SetRequest, Threshold

SAMPLE = 24
"""Pictures that are decoded to learn how long that takes."""


@dataclass(frozen=True)
class Item:
    """One line of a forecast."""

    stage: str
    what: str
    seconds: float
    bytes: int


@dataclass(frozen=True)
class BuildForecast:
    """What a build will take.

    Attributes
    ----------
    items
        Time and disk space by stage.
    pictures
        Pictures in the pool.
    protocol
        Identity of the protocol on this pool.
    sessions, answers, payment_usd
        What collecting human answers will take, as the protocol lays it out.
    warnings
        What should be changed before building.
    """

    items: tuple[Item, ...]
    pictures: int
    protocol: str
    sessions: int
    answers: int
    payment_usd: float
    warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Time of the whole build."""
        return sum(item.seconds for item in self.items)

    @property
    def bytes(self) -> int:
        """Disk space of the whole study."""
        return sum(item.bytes for item in self.items)


def forecast_build(experiment: Experiment, device_name: str, reporter: Reporter) -> BuildForecast:
    """Measure a little of everything and scale it up.

    Raises
    ------
    VimiError
        Whatever would stop the build, as far as it can be known before it: a missing pool, one that is too
        small, unknown models, missing weights.
    """
    device = choose_device(device_name)
    prepare_torch(device)
    pool = open_pool(experiment.pool.source, experiment.pool.data_set, experiment.pool.split)
    for notice in pool.notices():
        reporter.say(notice)
    size = len(pool)
    protocol = experiment.resolve_protocol().for_pool(size)
    protocol.windows(size, experiment.stimuli.difficulties)
    items: list[Item] = []
    trained = 0
    own: dict[str, int] = {}
    with reporter.task("Measuring", 1 + len(experiment.models)) as advance:
        decode, per_picture = _measure_decoding(pool, experiment)
        survey = decode
        if any(entry.group is None for entry in pool.entries[:1]):
            survey = max(decode, _embedding_seconds(device))
        items.append(Item("units", f"survey of {size:,} pictures", size * survey, size * 120))
        advance(1)
        for entry in experiment.models:
            card = resolve_card(entry)
            model = load_model(
                card, weights=entry.weights, seed=experiment.seed, device=device, need_training=True,
                aggregator=protocol.rules.units.aggregator,
            )  # fmt: skip
            trained += not card.twin
            copies = 2 if has_twin(entry, card) else 1
            items += _activation_items(model, pool, experiment, protocol, decode, copies)
            if "synthetic" in experiment.stimuli.conditions and not card.twin:
                own[model.name] = card.input.size
                item = _visualization_item(model, experiment, protocol, device)
                items.append(item)
                if experiment.visualization.twins and has_twin(entry, card):
                    items.append(replace(item, what=item.what.replace(model.name, model.name + TWIN_SUFFIX, 1)))
            advance(1)
    stored = min(size, _distinct_pictures(experiment, protocol))
    items.append(Item("exemplars", f"up to {stored:,} pictures stored", stored * decode * 1.5, stored * per_picture))
    sessions = _sessions(experiment, protocol, trained)
    rules = protocol.rules.session
    answers = sessions * (rules.main_trials + rules.catch_trials)
    warning = canvas_warning(experiment.visualization, own)
    return BuildForecast(
        tuple(items), size, protocol.identity, sessions, answers, sessions * rules.payment_usd,
        (warning,) if warning else (),
    )  # fmt: skip


def _measure_decoding(pool: Pool, experiment: Experiment) -> tuple[float, int]:
    """Return seconds per picture with all threads, and bytes of a stored one."""
    places = np.linspace(0, len(pool) - 1, min(SAMPLE, len(pool))).astype(int).tolist()
    sizes: list[int] = []
    begun = perf_counter()
    for place in places:
        image = canonical_crop(pool.original(place), experiment.pool.crop)
        scores(image)
    seconds = (perf_counter() - begun) / len(places) / decoding_threads()
    for place in places[:8]:
        buffer = io.BytesIO()
        canonical_crop(pool.original(place), experiment.pool.crop).save(buffer, "WEBP", **LOSSLESS)
        sizes.append(len(buffer.getvalue()))
    return seconds, int(np.mean(sizes))


def _embedding_seconds(device: torch.device) -> float:
    """Return seconds per picture that the survey spends on embedding."""
    from benchmark.model_sources import load_card
    from benchmark.observers.embedding import BATCH, embed_batch
    from stimuli.near_duplicates import EMBEDDED_SIDE, EMBEDDER

    embedder = load_model(load_card(EMBEDDER), device=device)
    pixels = torch.zeros((BATCH, 3, EMBEDDED_SIDE, EMBEDDED_SIDE), dtype=torch.uint8)
    return _time(lambda: embed_batch(embedder, pixels).cpu()) / BATCH


def _activation_items(
    model: Model, pool: Pool, experiment: Experiment, protocol: Protocol, decode: float, copies: int
) -> Iterator[Item]:
    """Yield what the pass over the pool takes, for a model and its twin."""
    batch = BATCH_ON_CPU if model.device.type == "cpu" else BATCH_ON_ACCELERATOR
    pixels = model_pixels(pool, 0, model.card.input, experiment.pool.view, experiment.pool.crop)
    stacked = torch.from_numpy(np.repeat(pixels[None], batch, axis=0))
    with model.reader() as reader:
        forward = _time(lambda: reader.read(model.prepare(stacked)).cpu()) / batch
    # On a CPU decoding and the network share the cores; on an accelerator the slower of them counts.
    each = forward + decode if model.device.type == "cpu" else max(forward, decode)
    size = len(pool)
    extremes = min(protocol.windows(size, experiment.stimuli.difficulties).reach, size)
    rules = protocol.rules.units
    sampled = reserve(experiment.units.per_model, rules.drawn, rules.used)
    columns = model.layer_map.column_count
    keeping = keeping_seconds(size, columns, extremes)
    stored = activation_bytes(size, sampled, columns, extremes)
    for number in range(copies):
        name = model.name + (TWIN_SUFFIX if number else "")
        yield Item("activations", name, size * each + keeping, stored)


def _visualization_item(model: Model, experiment: Experiment, protocol: Protocol, device: torch.device) -> Item:
    """Return what a model's synthetic pictures take: a few steps are timed at layers across its depth."""
    wanted = experiment.visualization
    canvas = wanted.canvas_for(model.card.input.size)
    settings = preset_settings(wanted, protocol.references_per_side, device, model.card.input.size)
    rules = protocol.rules.units
    drawn = draw_units(
        model.name, model.layer_map, rule=rules.rule, count=experiment.units.per_model, seed=experiment.seed,
        aggregator=rules.aggregator,
    )  # fmt: skip
    units = drawn[: wanted.units] if wanted.units else drawn
    depths = [model.layer_map[unit.space].depth for unit in units]
    probes = [min(units, key=lambda unit: abs(model.layer_map[unit.space].depth - q)) for q in (0.1, 0.5, 0.9)]
    images = protocol.references_per_side
    timed = fast.FastSettings(canvas=canvas, steps=4, images=images, sets=2, check_every=4)
    seconds = []
    for unit in probes:
        # A threshold out of reach: the timed steps are neither accepted nor stopped early.
        requests = [SetRequest(unit, sign, Threshold(1e9, 1e9, 0.0, 1.0)) for sign in (1, -1)]
        run = lambda: list(fast.visualize(model, model.layer_map[unit.space], requests, timed, seed=0))  # noqa: B023, E731
        seconds.append(_time(run, repeats=1) / (4 + 1) / 2)
    per_step = float(np.interp(np.mean(depths), [model.layer_map[u.space].depth for u in probes], seconds))
    if isinstance(settings, fast.FastSettings):
        steps = steps_of_sets(settings.steps, check_every=settings.check_every)
    else:
        steps = steps_of_sets(settings.most_steps, least_steps=settings.least_steps)
    sets = 2 * len(units)
    name = f"{model.name}, {sets} sets of {images} at {canvas} px"
    side = canvas if wanted.shown == "canvas" else experiment.pool.crop
    seconds_of_layers = 0.4 * len({unit.layer for unit in units})
    return Item(
        "visualizations", name, sets * steps * per_step + seconds_of_layers, synthetic_bytes(sets, images, side)
    )


def _distinct_pictures(experiment: Experiment, protocol: Protocol) -> int:
    """Return how many pictures a study stores at most."""
    per_unit = 2 * protocol.tasks_per_unit * (protocol.references_per_side + len(experiment.stimuli.difficulties))
    models = sum(2 if entry.twin else 1 for entry in experiment.models)
    return models * experiment.units.per_model * per_unit


def _sessions(experiment: Experiment, protocol: Protocol, models: int) -> int:
    """Return how many sessions the protocol plans."""
    total = 0
    nested = protocol.rules.session.models == "nested"
    for condition in experiment.stimuli.conditions:
        per_model = experiment.units_per_model(condition)
        cells = models if nested else 1
        units = per_model if nested else per_model * models
        total += len(experiment.stimuli.difficulties) * cells * planned_sessions(units, protocol)
    return total


def _time(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the median seconds of a piece of work, after one run to warm up."""
    work()
    seconds = []
    for _ in range(repeats):
        begun = perf_counter()
        work()
        seconds.append(perf_counter() - begun)
    return float(np.median(seconds))

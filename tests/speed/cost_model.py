"""What building studies costs: seconds and bytes of every stage, fitted to measurements, and what follows for others.

A *measurement* says what was done, in amounts (pictures decoded, billions of operations, millions of numbers written),
and what it took. A stage's seconds are a sum of its amounts, each times a coefficient that is not negative
(:data:`TERMS`); coefficients are fitted stage by stage so that relative errors are small, and their intervals come from
drawing whole networks, or settings, anew. Bytes that follow from the layout of a file are formulas; those of compressed
pictures are fitted, too.

The model knows nothing of other machines. :class:`Hardware` says how fast one is relative to the processor core that
was measured on: numbers that come from elsewhere or are assumed, and are stated beside every prediction.
:func:`predict_studies` puts stages together as :mod:`stimuli.building` does them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from benchmark.errors import VimiError
from benchmark.estimate import Estimate
from benchmark.randomness import generator_from
from stimuli.stage_costs import TYPICAL_STEPS, activation_bytes, shard_bytes, synthetic_bytes

Amounts = Mapping[str, float]

TERMS: dict[str, tuple[str, ...]] = {
    "decoding": ("pictures", "megapixels"),
    "survey": ("pictures", "megapixels"),
    "duplicates": ("gigapairs",),
    "loading": ("models", "megaparameters", "layers"),
    "forward": ("pictures", "gigaflops", "megaelements"),
    "accelerator": ("pictures", "gigaflops", "megaelements"),
    "extremes": ("megaentries", "megakept"),
    "merging": ("megakept",),
    "choosing": ("rows", "megaentries"),
    "encoding": ("pictures", "megapixels"),
    "reading": ("pictures",),
    "describing": ("pictures",),
    "prefixes": ("copies", "megaparameters"),
    "steps": ("passes", "megapixels", "gigaflops", "megaelements"),
    "trials": ("units",),
}
"""Stages, and the amounts that their seconds are made of. The first amount is how much was done; the others, divided
by it, say what kind of work it was.

``megapixels`` are those of the files that are decoded, of the pictures that are encoded, or, of ``steps``, those of
the pictures that are rendered in all passes; ``passes`` are those of a batch, and a gradient counts as one more;
``rows`` are pictures shown for units; ``gigaflops`` are billions of operations (two a product) of forward passes, or of
forward passes and their gradients; ``megaelements`` are millions of numbers that operations write; ``megaentries`` are
millions of activations, pictures times columns or units; ``megakept`` millions of extremes that are looked through.
``accelerator`` is a forward pass somewhere else, whose seconds were published, not measured."""

BYTES: dict[str, str] = {"encoding": "megapixels", "survey": "pictures"}
"""Stages whose bytes are fitted, and the amount that they are proportional to."""

FAR = 3.0
"""Work whose kind lies beyond the measured range by more than this factor is only predicted if asked for."""
DRAWS = 400


@dataclass(frozen=True)
class Measurement:
    """What was done once, and what it took.

    Attributes
    ----------
    stage
        One of :data:`TERMS`.
    name
        What it was done with: measurements of one name (a network, a size of pictures) are held out together.
    amounts
        What was done.
    seconds
        Seconds of processor, the median over repetitions.
    bytes
        Bytes that were written; NaN where that was not looked at.
    wall
        Seconds that went by.
    """

    stage: str
    name: str
    amounts: Amounts
    seconds: float
    bytes: float = math.nan
    wall: float = math.nan


@dataclass(frozen=True)
class StageFit:
    """The coefficients of a stage.

    Attributes
    ----------
    terms
        Names of its amounts.
    coefficients
        Shape (terms,): seconds for one of each.
    draws
        Shape (draws, terms): the same from names drawn anew.
    held_out
        Of each name, the mean of the logarithm of measured over predicted seconds, predicted from the other names.
    ranges
        Smallest and largest of each amount: of the first itself, of the others for each one of the first.
    """

    terms: tuple[str, ...]
    coefficients: NDArray[np.float64]
    draws: NDArray[np.float64]
    held_out: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]]

    def seconds(self, amounts: Amounts) -> float:
        """Return the seconds of some work."""
        return float(self.coefficients @ [amounts.get(term, 0.0) for term in self.terms])

    def drawn(self, amounts: Amounts) -> NDArray[np.float64]:
        """Return the seconds of some work by each draw, shape (draws,)."""
        return np.asarray(self.draws @ np.array([amounts.get(term, 0.0) for term in self.terms]))

    def errors(self, stage: str, key: str) -> NDArray[np.float64]:
        """Return draws of the factor by which work of one key differs from its prediction, as names held out did."""
        errors = np.array(list(self.held_out.values())) if len(self.held_out) > 1 else np.zeros(1)
        return np.asarray(np.exp(generator_from(0, "cost", stage, key).choice(errors, len(self.draws))))

    def outside(self, amounts: Amounts, *, beyond: bool = False) -> list[str]:
        """Return, in words, what of some work lies far outside what was measured: how much it is, and of what kind.

        With ``beyond`` only kinds count, and only those that are heavier than what was measured.
        """
        found: list[str] = []
        count = amounts.get(self.terms[0], 0.0)
        for number, term in enumerate(self.terms):
            if beyond and not number:
                continue
            low, high = self.ranges[term]
            value = amounts.get(term, 0.0)
            if number:
                value = value / count if count else 0.0
            one = {"copies": "copy", "passes": "pass"}.get(self.terms[0], self.terms[0].removesuffix("s"))
            per = f" per {one}" if number else ""
            if value > FAR * high or (0 < value < low / FAR and not beyond):
                found.append(f"{value:.3g} {term}{per}, measured {low:.3g} to {high:.3g}")
        return found


@dataclass(frozen=True)
class CostModel:
    """Costs of all stages that were measured.

    Attributes
    ----------
    stages
        Their fits.
    bytes_each
        Bytes for one of what :data:`BYTES` names, by stage, with their intervals.
    """

    stages: Mapping[str, StageFit]
    bytes_each: Mapping[str, Estimate]

    def coefficients(self) -> dict[tuple[str, str], Estimate]:
        """Return every coefficient, in seconds for one of an amount, by stage and amount."""
        result: dict[tuple[str, str], Estimate] = {}
        for stage, fit in self.stages.items():
            for number, term in enumerate(fit.terms):
                if len(fit.held_out) < 2:
                    result[stage, term] = Estimate(
                        float(fit.coefficients[number]), 0.0, math.inf, "one name alone: no interval can be had", 1,
                        f"seconds per {term}", "work of the kind that was measured",
                    )  # fmt: skip
                    continue
                result[stage, term] = _estimate(
                    float(fit.coefficients[number]), fit.draws[:, number], len(fit.held_out), f"seconds per {term}",
                    "non-negative least squares of relative errors; percentiles over names drawn anew",
                )  # fmt: skip
        return result

    def held_out_errors(self) -> dict[str, Estimate]:
        """Return each stage's relative error where a name was predicted from the others: the median of its size."""
        result: dict[str, Estimate] = {}
        for stage, fit in self.stages.items():
            if len(fit.held_out) > 1:
                errors = np.abs(np.expm1(np.array(list(fit.held_out.values()))))
                result[stage] = Estimate(
                    float(np.median(errors)), float(errors.min()), float(errors.max()),
                    "median of leave-one-name-out errors, with the smallest and the largest", len(errors),
                    "share of the predicted seconds", "names that were not fitted to", math.nan,
                )  # fmt: skip
        return result

    def predict(self, stage: str, amounts: Amounts, *, extrapolate: bool = False) -> Estimate:
        """Predict the seconds that some work takes on the core that was measured on.

        Parameters
        ----------
        stage
            One of the stages.
        amounts
            What is to be done.
        extrapolate
            Whether work far from all that was measured is predicted as well; the method then says so.

        Raises
        ------
        VimiError
            If the stage was not measured, or the work is far from all that was and ``extrapolate`` is false.
        """
        fit = self._fit(stage)
        unknown = sorted(set(amounts) - set(fit.terms))
        if unknown:
            raise VimiError(f"The stage {stage} has no amount {unknown[0]!r}; its amounts are {', '.join(fit.terms)}.")
        outside = fit.outside(amounts)
        if outside and not extrapolate:
            raise VimiError(
                f"This is far from all that was measured of {stage}: {'; '.join(outside)}. Measure it, or predict with "
                "extrapolate=True, which says so."
            )
        method = "non-negative least squares; names drawn anew, times the error of names held out"
        if outside:
            method += f"; EXTRAPOLATED: {'; '.join(outside)}"
        return _estimate(fit.seconds(amounts), self.draw(stage, amounts), len(fit.held_out), "seconds", method)

    def draw(self, stage: str, amounts: Amounts, key: str = "") -> NDArray[np.float64]:
        """Return draws of the seconds that some work takes: of coefficients, and of an error as of names held out.

        Parameters
        ----------
        stage, amounts
            As for :meth:`predict`.
        key
            Work of one key shares its error.
        """
        fit = self._fit(stage)
        return np.asarray(fit.drawn(amounts) * fit.errors(stage, key))

    def _fit(self, stage: str) -> StageFit:
        if stage not in self.stages:
            raise VimiError(f"The stage {stage!r} was not measured; measured were {', '.join(self.stages)}.")
        return self.stages[stage]


def fit_costs(measurements: Iterable[Measurement], *, draws: int = DRAWS, seed: int = 0) -> CostModel:
    """Fit costs to measurements.

    Each stage's coefficients minimise the sum of squared relative errors among coefficients that are not negative
    (Lawson & Hanson 1974). Intervals are percentiles over names drawn with replacement; the error of a prediction is
    that of names that were left out in turn.

    Parameters
    ----------
    measurements
        Of any stages of :data:`TERMS`.
    draws
        How often names are drawn.
    seed
        Of these draws.

    Raises
    ------
    VimiError
        If a measurement is of no known stage, or took no time.
    """
    by_stage: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        if measurement.stage not in TERMS:
            raise VimiError(f"There is no stage {measurement.stage!r}; stages are {', '.join(TERMS)}.")
        if not measurement.seconds > 0:
            raise VimiError(f"A measurement of {measurement.stage} with {measurement.name} took no time.")
        by_stage.setdefault(measurement.stage, []).append(measurement)
    stages = {stage: _fit_stage(stage, rows, draws, seed) for stage, rows in by_stage.items()}
    sizes = {
        stage: _fit_bytes([row for row in by_stage[stage] if not math.isnan(row.bytes)], amount, draws, seed)
        for stage, amount in BYTES.items()
        if any(not math.isnan(row.bytes) for row in by_stage.get(stage, []))
    }
    return CostModel(stages, sizes)


def _fit_stage(stage: str, rows: Sequence[Measurement], draws: int, seed: int) -> StageFit:
    terms = TERMS[stage]
    amounts = np.array([[row.amounts.get(term, 0.0) for term in terms] for row in rows])
    seconds = np.array([row.seconds for row in rows])
    names = np.array([row.name for row in rows])
    known = list(dict.fromkeys(names.tolist()))
    members = {name: np.flatnonzero(names == name) for name in known}
    coefficients = _solve(amounts, seconds)
    generator = generator_from(seed, "cost intervals", stage)
    drawn = np.array(
        [
            _solve(amounts[taken], seconds[taken])
            for taken in (
                np.concatenate([members[known[n]] for n in generator.integers(len(known), size=len(known))])
                for _ in range(draws)
            )
        ]
    )
    held_out: dict[str, float] = {}
    for name in known:
        others = np.flatnonzero(names != name)
        if not len(others):
            held_out[name] = 0.0
            continue
        predicted = amounts[members[name]] @ _solve(amounts[others], seconds[others])
        # A name that alone shows an amount can't be predicted from the others: it then counts as a factor of ten.
        with np.errstate(divide="ignore"):
            ratios = np.log(seconds[members[name]]) - np.log(predicted)
        held_out[name] = float(np.clip(ratios, -math.log(10), math.log(10)).mean())
    count = np.maximum(amounts[:, :1], 1e-300)
    kinds = np.hstack([amounts[:, :1], amounts[:, 1:] / count])
    ranges = {term: (float(kinds[:, n].min()), float(kinds[:, n].max())) for n, term in enumerate(terms)}
    return StageFit(terms, coefficients, drawn, held_out, ranges)


def _solve(amounts: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients, none negative, with the least sum of squared relative errors."""
    relative = amounts / seconds[:, None]
    scale = np.maximum(np.abs(relative).max(axis=0), 1e-300)
    return np.asarray(nnls(relative / scale, np.ones(len(seconds)))[0] / scale)


def _fit_bytes(rows: Sequence[Measurement], amount: str, draws: int, seed: int) -> Estimate:
    """Return bytes for one of an amount: the mean over names, with percentiles over names drawn anew."""
    by_name: dict[str, list[float]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row.bytes / row.amounts[amount])
    means = np.array([np.mean(values) for values in by_name.values()])
    generator = generator_from(seed, "cost bytes", amount)
    drawn = means[generator.integers(len(means), size=(draws, len(means)))].mean(axis=1)
    return _estimate(float(means.mean()), drawn, len(means), f"bytes per {amount}", "mean over names drawn anew")


def _estimate(value: float, drawn: NDArray[np.float64], n: int, unit: str, method: str) -> Estimate:
    low, high = (float(q) for q in np.percentile(drawn, [2.5, 97.5]))
    return Estimate(value, min(low, value), max(high, value), method, n, unit, "work of the kind that was measured")


# ---------------------------------------------------------------- other machines


def makespan(lengths: Iterable[float], workers: int) -> float:
    """Return when the last of some pieces is finished, if each goes, in their order, to the next free worker.

    For equal pieces that is the largest number of pieces that a worker gets, times their length.
    """
    if workers < 1:
        raise VimiError("Pieces need at least one worker.")
    free = [0.0] * workers
    for length in lengths:
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


@dataclass(frozen=True)
class Hardware:
    """Machines, relative to the processor core that was measured on. The cost model itself knows nothing of them.

    Attributes
    ----------
    accelerator
        Seconds of forward passes at reduced precision, fitted to figures that were published.
    gpus
        Accelerators, each with a worker of its own.
    speed
        Speed of each relative to the one of the figures.
    gpus_per_node
        Accelerators in one machine.
    cores_per_gpu
        Processor cores for each accelerator: they decode.
    core
        Speed of such a core relative to the one that was measured on.
    exact
        How many times as long a forward pass takes in single precision, in which activations are read.
    step
        Forward passes that a step of a visualisation takes.
    helper
        How many times as fast as on the core other work is on the accelerator: keeping extremes, finding duplicates.
    sets
        Sets in a batch. Places that no set fills are computed all the same.
    """

    accelerator: StageFit
    gpus: int = 1
    speed: float = 1.0
    gpus_per_node: int = 8
    cores_per_gpu: float = 8.0
    core: float = 1.0
    exact: float = 2.5
    step: float = 3.0
    helper: float = 50.0
    sets: int = 16

    @property
    def decoding_cores(self) -> float:
        """Cores that decode for one worker: a process decodes in at most 16 threads."""
        return min(MOST_THREADS, self.cores_per_gpu) * self.core

    @property
    def head_cores(self) -> float:
        """Cores that decode in the process that hands out the pieces."""
        return min(MOST_THREADS, self.cores_per_gpu * min(self.gpus, self.gpus_per_node)) * self.core


@dataclass(frozen=True)
class Network:
    """What a network costs, as its architecture says.

    Attributes
    ----------
    name
        Its name.
    megaparameters, gigaflops, megaelements
        Of the network; the last two for one picture.
    layers, columns, units
        Eligible layers, columns that are read, units in all.
    side
        Side of its input in pixels.
    scales
        Whether it takes pictures of other sizes.
    drawn
        For each layer with drawn units: their number; gigaflops and megaelements up to it; gigaflops of the similarity
        of a set's pictures; all for one picture of the network's own size.
    """

    name: str
    megaparameters: float
    gigaflops: float
    megaelements: float
    layers: int
    columns: int
    units: int
    side: int = 224
    scales: bool = True
    drawn: tuple[tuple[int, float, float, float], ...] = ()

    def layers_of(self, units: int) -> list[tuple[int, float, float, float]]:
        """Return the layers of so many of the drawn units, taken evenly, as in :attr:`drawn`."""
        owners = [number for number, layer in enumerate(self.drawn) for _ in range(int(layer[0]))]
        if not owners or not units:
            return []
        taken = np.linspace(0, len(owners) - 1, min(units, len(owners))).round().astype(int)
        counts = np.bincount(np.array(owners)[taken], minlength=len(self.drawn))
        return [(int(count), *layer[1:]) for count, layer in zip(counts, self.drawn) if count]


@dataclass(frozen=True)
class StudySize:
    """What is made of each network.

    Attributes
    ----------
    pictures, megapixels
        Pictures of the pool, and the size of one of them.
    units, sampled
        Units with stimuli, and units that keep the activation of every picture.
    extremes
        Extremes kept on either side.
    shown
        Natural pictures that are shown for a unit.
    synthetic
        Units with synthetic pictures; 0 for none.
    canvas, steps, images, check_every
        Of these pictures: side (0 for each network's own), steps of a set, pictures of a set, steps between looks.
    copies
        2 if each network has a twin.
    crop
        Side of the pictures that are stored.
    shards, batch
        Shards of a pass, and pictures in a batch of it; the last one is filled up.
    embedder
        Gigaflops and megaelements, for one picture, of the network that looks for near-duplicates; None if groups are
        known.
    observers
        The same of each observer's network.
    described
        Whether the low-level observer answers.
    parts
        How often stimuli are chosen again, from parts of the pool.
    """

    pictures: int
    megapixels: float
    units: int
    sampled: int
    extremes: int
    shown: int = 400
    synthetic: int = 0
    canvas: int = 0
    steps: float = float(TYPICAL_STEPS)
    images: int = 9
    check_every: int = 12
    copies: int = 2
    crop: int = 224
    shards: int = 16
    batch: int = 32
    embedder: tuple[float, float] | None = None
    observers: tuple[tuple[float, float], ...] = ()
    described: bool = False
    parts: int = 0

    def stored(self, networks: int = 1) -> int:
        """Return how many natural pictures a study of so many networks stores at most."""
        return min(self.pictures, networks * self.copies * self.units * self.shown)


@dataclass(frozen=True)
class Work:
    """Some work of one stage: in which part of a study, where it is done, and what it is.

    Attributes
    ----------
    part
        One of :data:`PARTS`.
    place
        ``threads`` that decode, ``core`` for one core, ``network`` for forward passes, ``steps`` for those of
        visualisations, ``helper`` for other work that an accelerator does.
    stage, amounts
        As for :meth:`CostModel.predict`.
    """

    part: str
    place: str
    stage: str
    amounts: Amounts


PARTS = (
    "survey", "loading", "activations", "merging", "choosing", "storing", "visualizations", "observers", "describing",
    "trials",
)  # fmt: skip
"""Parts of a study. Activations and visualisations are cut into pieces; so are the pictures of observers."""


def survey_work(design: StudySize) -> list[Work]:
    """Return what is done once for a study, before any model."""
    count = float(design.pictures)
    work = [Work("survey", "threads", "survey", {"pictures": count, "megapixels": count * design.megapixels})]
    if design.embedder is not None:
        # Blocks of 4,096 pictures are compared with one another, those on the diagonal in both directions.
        pairs = count * min(count, (count + 4096) / 2)
        work += [
            Work("survey", "network", "forward", _passes(count, *design.embedder)),
            Work("survey", "helper", "duplicates", {"gigapairs": pairs / 1e9}),
            Work("loading", "core", "loading", {"models": 1.0, "megaparameters": 4.7, "layers": 103.0}),
        ]
    return work


def model_work(network: Network, design: StudySize, sets: int = 2, place: int = 0) -> list[Work]:
    """Return what is done for one network and its twin, if it has one.

    Parameters
    ----------
    network, design
        The network, and what is made of it.
    sets
        Sets in a batch of visualisations.
    place
        How many networks of the study come before it: their pictures are stored already.
    """
    copies, count = design.copies, float(design.copies * design.pictures)
    padded = float(copies * design.batch * math.ceil(design.pictures / design.batch))
    entries = count * network.columns / 1e6
    merges = copies * math.ceil(design.pictures / 1024)
    kept = 2 * network.columns * design.extremes / 1e6
    stored = float(design.stored(place + 1) - design.stored(place))
    again = 2.0 - 0.5**design.parts  # parts of a half, a quarter and so on, beside the whole
    choices = {
        "rows": float(copies * design.units * design.shown * (1 + design.parts)),
        "megaentries": again * copies * design.sampled * design.pictures / 1e6,
    }
    decoded = {"pictures": count, "megapixels": count * design.megapixels}
    work = [
        Work("loading", "core", "loading", _loading(network, copies)),
        Work("activations", "threads", "decoding", decoded),
        Work("activations", "network", "forward", _passes(padded, network.gigaflops, network.megaelements)),
        Work("activations", "helper", "extremes", {"megaentries": entries, "megakept": merges * kept}),
        Work("merging", "core", "merging", {"megakept": copies * design.shards * kept if design.shards > 1 else kept}),
        Work("choosing", "core", "choosing", choices),
        Work("storing", "threads", "decoding", {"pictures": stored, "megapixels": stored * design.megapixels}),
        Work("storing", "threads", "encoding", _pixels(stored, design.crop)),
        Work("trials", "core", "trials", {"units": float(copies * (design.units + design.synthetic))}),
    ]
    pictures = stored
    for layer in network.layers_of(design.synthetic):
        work += [
            replace(item, amounts=_times(item.amounts, copies)) for item in layer_work(network, layer, design, sets)
        ]
    pictures += 2.0 * copies * design.synthetic * design.images
    for observer in design.observers:
        work += [
            Work("observers", "core", "reading", {"pictures": pictures}),
            Work("observers", "network", "forward", _passes(pictures, *observer)),
        ]
    if design.described:
        work.append(Work("describing", "core", "describing", {"pictures": pictures}))
    return work


def layer_work(
    network: Network, layer: tuple[int, float, float, float], design: StudySize, sets: int = 2
) -> list[Work]:
    """Return what the synthetic pictures of a layer's units take, for one copy of the network.

    A step is a forward pass and its gradient, which is as much again; a look, and each set that leaves, is a forward
    pass. A batch has always the same size, whether or not there are sets enough to fill it.
    """
    units, flops, elements, similar = layer
    made = 2 * units
    canvas = design.canvas or network.side
    area = (canvas / network.side) ** 2 if network.scales else 1.0
    batches = max(1.0, made / sets)
    steps = batches * design.steps
    images = sets * design.images
    passes = images * (2 * steps + steps / design.check_every + made)
    side = canvas + 2 * max(2, round(canvas / 14))
    decoded, measured = (float(min(design.pictures, own + 64 * units)) for own in (0, 64))
    amounts = {
        "passes": passes / images, "megapixels": passes * side**2 / 1e6,
        "gigaflops": passes * area * (flops + similar), "megaelements": passes * area * elements,
    }  # fmt: skip
    part = "visualizations"
    return [
        Work(part, "core", "decoding", {"pictures": decoded, "megapixels": decoded * design.megapixels}),
        Work(part, "network", "forward", _passes(measured, flops * area, elements * area)),
        Work(part, "core", "prefixes", {"copies": 2.0, "megaparameters": 2 * network.megaparameters}),
        Work(part, "steps", "steps", amounts),
        Work(part, "core", "encoding", _pixels(float(made * design.images), design.crop)),
    ]


def _passes(pictures: float, gigaflops: float, megaelements: float) -> dict[str, float]:
    return {"pictures": pictures, "gigaflops": pictures * gigaflops, "megaelements": pictures * megaelements}


def _pixels(pictures: float, side: int) -> dict[str, float]:
    return {"pictures": pictures, "megapixels": pictures * side**2 / 1e6}


def _loading(network: Network, copies: int) -> dict[str, float]:
    return {
        "models": float(copies), "megaparameters": copies * network.megaparameters,
        "layers": float(copies * network.layers),
    }  # fmt: skip


def _times(amounts: Amounts, factor: float) -> dict[str, float]:
    return {term: factor * value for term, value in amounts.items()}


def core_seconds(model: CostModel, work: Iterable[Work]) -> dict[str, Estimate]:
    """Return the seconds of processor that each part takes where everything is done on the core that was measured on.

    Stages that were not measured, or of which there is nothing to do, count nothing.
    """
    values: dict[str, float] = {}
    draws: dict[str, NDArray[np.float64]] = {}
    for item in work:
        if item.stage in model.stages:
            values[item.part] = values.get(item.part, 0.0) + model.stages[item.stage].seconds(item.amounts)
            draws[item.part] = draws.get(item.part, np.zeros(1)) + model.draw(item.stage, item.amounts)
    method = "sum over stages; names drawn anew, times the error of names held out"
    return {part: _estimate(value, draws[part], len(model.stages), "seconds", method) for part, value in values.items()}


# ---------------------------------------------------------------- predictions

MOST_THREADS = 16.0
"""Threads that a process decodes in at most."""

MANNERS = ("one study", "one after the other", "side by side")
"""How several models are run: all in one study, whose pieces go to all accelerators; each in a study of its own, one
after the other, each spread over all accelerators; or each in a study of its own on one accelerator, many at a time."""


@dataclass(frozen=True)
class Prediction:
    """What studies take.

    Attributes
    ----------
    hours
        From beginning to end.
    by_part
        The same by part; where studies run side by side, of all studies on one accelerator.
    gpu_hours
        Hours of accelerators, idle ones included.
    busy
        Share of these in which accelerators have pieces to do.
    bytes, peak_bytes
        What is left on disk, and the most that is there at once, shards included.
    outside
        Kinds of work that lie far outside what was measured, in words.
    """

    hours: Estimate
    by_part: Mapping[str, float]
    gpu_hours: Estimate
    busy: float
    bytes: float
    peak_bytes: float
    outside: tuple[str, ...]

    def money(self, price: float) -> Estimate:
        """Return what it costs at a price for an hour of an accelerator."""
        hours = self.gpu_hours
        return Estimate(
            price * hours.value, price * hours.low, price * hours.high, hours.method, hours.n,
            f"USD at {price:g} USD per GPU hour", hours.estimand, hours.level,
        )  # fmt: skip


@dataclass
class _Part:
    """Hours of a part: their value, and draws of it."""

    value: float = 0.0
    draws: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))

    def add(self, value: float, draws: NDArray[np.float64]) -> None:
        self.value += value
        self.draws = self.draws + draws


def predict_studies(
    model: CostModel,
    networks: Sequence[Network],
    design: StudySize,
    hardware: Hardware,
    manner: str = "one study",
    *,
    times: int = 1,
) -> Prediction:
    """Predict the time, money and disk space of studies of several networks.

    Parameters
    ----------
    model
        Costs on the core that was measured on.
    networks
        The networks; each with a twin, if the design says so.
    design
        What is made of each of them.
    hardware
        Where; numbers of accelerators are assumptions.
    manner
        One of :data:`MANNERS`.
    times
        How many networks each of them stands for, where they have studies of their own.

    Raises
    ------
    VimiError
        If there is no such manner.
    """
    if manner not in MANNERS:
        raise VimiError(f"There is no manner {manner!r}; manners are {', '.join(MANNERS)}.")
    if times < 1 or (times > 1 and manner == "one study"):
        raise VimiError("Networks that stand for several have studies of their own: times is 1 in one study.")
    predictor = _Predictor(model, design, hardware if manner != "side by side" else replace(hardware, gpus=1))
    studies = [list(networks)] if manner == "one study" else [[network] for network in networks]
    parts = {part: _Part() for part in PARTS}
    working, lengths = 0.0, []
    for members in studies:
        before = sum(part.value for part in parts.values())
        working += predictor.study(members, parts)
        lengths.append(sum(part.value for part in parts.values()) - before)
    total = sum(lengths)
    draws = np.sum([part.draws + np.zeros(DRAWS) for part in parts.values()], axis=0)
    hours = makespan(lengths * times, hardware.gpus) if manner == "side by side" else total * times
    method = "cost model; names drawn anew, times the error of names held out; assumptions about machines not varied"
    share = hours / total
    estimate = _estimate(hours, share * draws, len(networks), "hours", method)
    gpu_hours = _estimate(hours * hardware.gpus, share * draws * hardware.gpus, len(networks), "GPU hours", method)
    kept, peak = predictor.sizes(studies, hardware.gpus if manner == "side by side" else 1, times)
    by_part = {name: times * part.value for name, part in parts.items()}
    busy = times * working / (hours * hardware.gpus)
    return Prediction(estimate, by_part, gpu_hours, busy, kept, peak, tuple(sorted(predictor.outside)))


class _Predictor:
    """Puts the parts of studies together on given hardware."""

    def __init__(self, model: CostModel, design: StudySize, hardware: Hardware) -> None:
        self.model, self.design, self.hardware = model, design, hardware
        self.outside: set[str] = set()
        self._errors: dict[tuple[str, str], NDArray[np.float64]] = {}

    def _error(self, fit: StageFit, stage: str, key: str) -> NDArray[np.float64]:
        """Return draws of the factor by which work of one key may differ from what is predicted."""
        if (stage, key) not in self._errors:
            self._errors[stage, key] = fit.errors(stage, key)
        return self._errors[stage, key]

    def hours(self, item: Work, key: str, *, on_head: bool) -> _Part:
        """Return the hours of some work on one worker, or in the process that hands out the pieces."""
        hardware = self.hardware
        stage, factor = item.stage, 1 / hardware.core
        if item.place in ("network", "steps"):
            fit, stage = hardware.accelerator, "accelerator"
            factor = (hardware.exact if item.place == "network" else hardware.step / 2) / hardware.speed
            amounts = item.amounts
            if item.place == "steps":
                amounts = {**amounts, "pictures": 0.0}
            else:
                self.outside.update(f"accelerator: {words}" for words in fit.outside(amounts, beyond=True))
            seconds, draws = fit.seconds(amounts), fit.drawn(amounts) * self._error(fit, stage, key)
        else:
            fit = self.model.stages[stage]
            self.outside.update(f"{stage}: {words}" for words in fit.outside(item.amounts, beyond=True))
            error = self._error(fit, stage, "" if on_head else key)
            seconds, draws = fit.seconds(item.amounts), fit.drawn(item.amounts) * error
            if item.place == "helper":
                factor = 1 / (hardware.helper * hardware.speed)
            elif item.place == "threads":
                factor = 1 / (hardware.head_cores if on_head else hardware.decoding_cores)
        return _Part(seconds * factor / 3600, draws * factor / 3600)

    def study(self, networks: Sequence[Network], parts: dict[str, _Part]) -> float:
        """Add the hours of one study to its parts; returns the hours in which accelerators work."""
        hardware, design = self.hardware, self.design
        decoded, embedded = _Part(), _Part()
        for item in survey_work(design):
            hours = self.hours(item, "", on_head=True)
            if item.place in ("threads", "network"):
                (decoded if item.place == "threads" else embedded).add(hours.value, hours.draws)
            else:
                parts[item.part].add(hours.value, hours.draws)
        # Decoding goes on while a batch is embedded.
        parts["survey"].add(max(decoded.value, embedded.value), np.maximum(decoded.draws, embedded.draws))
        pieces: dict[str, list[float]] = {"activations": [], "visualizations": []}
        exact: dict[str, _Part] = {"activations": _Part(), "visualizations": _Part()}
        pictures = _Part()
        for place, network in enumerate(networks):
            load = self.hours(Work("loading", "core", "loading", _loading(network, 1)), network.name, on_head=False)
            feeding, passing = _Part(), _Part()
            for item in model_work(network, design, hardware.sets, place):
                if item.part == "visualizations":
                    continue
                spread = item.part in ("activations", "observers")
                hours = self.hours(item, network.name, on_head=not spread)
                if item.part == "activations":
                    (feeding if item.place == "threads" else passing).add(hours.value, hours.draws)
                elif item.part == "observers":
                    pictures.add(hours.value, hours.draws)
                else:
                    parts[item.part].add(hours.value, hours.draws)
            count = design.copies * design.shards
            passes = max(feeding.value, passing.value)
            exact["activations"].add(passes, np.maximum(feeding.draws, passing.draws))
            pieces["activations"] += self._with_loading([passes / count] * count, load.value, design.copies)
            sets = self._sets(network, exact["visualizations"])
            pieces["visualizations"] += self._with_loading(sets * design.copies, load.value, design.copies)
        working = 0.0
        for part, lengths in pieces.items():
            if lengths and exact[part].value > 0:
                spent = makespan(lengths, hardware.gpus)
                parts[part].add(spent, spent * exact[part].draws / exact[part].value)
                working += sum(lengths)
        share = 1 / min(hardware.gpus, max(1, math.ceil(design.stored(len(networks)) / 128)))
        parts["observers"].add(pictures.value * share, pictures.draws * share)
        return working + pictures.value

    def _sets(self, network: Network, exact: _Part) -> list[float]:
        """Return the hours of each piece of one copy's visualisations."""
        lengths: list[float] = []
        hardware, design = self.hardware, self.design
        most = 4 * hardware.sets // 2
        for units, *layer in network.layers_of(design.synthetic):
            for start in range(0, units, most):
                members = (min(most, units - start), *layer)
                length = 0.0
                for item in layer_work(network, members, design, hardware.sets):  # type: ignore[arg-type]
                    hours = self.hours(item, network.name, on_head=False)
                    exact.add(design.copies * hours.value, design.copies * hours.draws)
                    length += hours.value
                lengths.append(length)
        return lengths

    def _with_loading(self, lengths: list[float], load: float, copies: int) -> list[float]:
        """Add the time to load a model to the first piece that each worker does with it."""
        each = len(lengths) // copies if copies else len(lengths)
        first = min(each, self.hardware.gpus)
        return [length + (load if number % max(each, 1) < first else 0.0) for number, length in enumerate(lengths)]

    def sizes(self, studies: Sequence[Sequence[Network]], at_once: int, times: int) -> tuple[float, float]:
        """Return bytes that are left, and the most that are there at once."""
        design, each = self.design, self.model.bytes_each
        row = each["survey"].value if "survey" in each else 0.0
        pixel = (each["encoding"].value if "encoding" in each else 1e6) * 1e-6
        shards = [len(part) for part in np.array_split(np.arange(design.pictures), design.shards)]
        kept, shares = 0.0, [0.0]
        for members in studies:
            kept += design.pictures * row
            kept += design.stored(len(members)) * pixel * design.crop**2
            temporary = 0.0
            for network in members:
                size = (design.pictures, design.sampled, network.columns, design.extremes)
                kept += design.copies * activation_bytes(*size)
                sets = 2 * design.copies * design.synthetic
                kept += synthetic_bytes(sets, design.images, design.crop)
                temporary += design.copies * shard_bytes(*size, shards)
            shares.append(temporary)
        return times * kept, times * kept + sum(sorted(shares * times)[-at_once:])

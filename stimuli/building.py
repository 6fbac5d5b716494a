"""Building a study: its five stages, each of which runs once for given inputs and can be resumed."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark import schemas
from benchmark.errors import ActivationError, StudyError
from benchmark.hashing import hash_rows, hash_settings, picture_keys
from benchmark.model_card import TWIN_SUFFIX
from benchmark.model_zoo import Model
from benchmark.plumbing import PLUMBING, repeats_groups
from benchmark.protocol import Window, Windows
from benchmark.study import Stage
from benchmark.tasks import assemble_tasks
from benchmark.trials import lay_out_trials, wave_cells
from benchmark.units import Unit, draw_units, reserve, unit_columns
from benchmark.waves import plan_waves
from stimuli.activations import (
    gather_activations,
    measure_activations,
    missing_shards,
    read_activations,
)
from stimuli.equipment import PlanEquipment, SetEquipment, Site
from stimuli.exemplars import choose_exemplars, exemplar_rows
from stimuli.image_store import store_crops
from stimuli.loading import check_picture
from stimuli.materials import Materials
from stimuli.order_statistics import content_ties, full_order
from stimuli.planted import DETECTORS
from stimuli.synthetic import canvas_warning, make_sets, paint_planted, planted_side, set_pieces
from stimuli.unit_statistics import choose_used, describe, layer_ranges, statistics_table

PLANTED_TASKS = 6
"""Tasks of each planted unit: enough for practice and catch trials never to repeat within a session."""


class Builder(Materials):
    """Builds the stages of a study, one after the other."""

    def run(self, stage: Stage) -> None:
        """Run a stage, unless it has finished from the same inputs."""
        {
            "units": self.units,
            "activations": self.activations,
            "exemplars": self.exemplars,
            "visualizations": self.visualizations,
            "trials": self.trials,
        }[stage]()

    def units(self) -> None:
        """Survey the pool, load the models and draw units."""
        if self.recall_survey():
            inputs = hash_settings([self.experiment.hash, self.survey.hash, self._weights(), self._cards()])
            if self.study.stage_is_done("units", inputs):
                return
        _ = self.pool  # what is cheap to fail fails first: a pool that is not there, a mistyped card, missing weights
        with self.study.timed("units", "loading models"):
            models = self.models()
        with self.study.timed("units", "survey of the pool"):
            survey = self.survey
        _ = self.windows  # a pool that is too small fails here, before hours of work
        if self.protocol.rules.tasks.distinct_classes and not survey.has_labels:
            raise StudyError(
                "[stimuli] distinct_classes = true keeps a query's class out of its references, but the pool "
                f"{self.experiment.pool.source} has no classes. Use a labelled pool, such as imagenet:PATH."
            )
        inputs = hash_settings([self.experiment.hash, survey.hash, self._weights(), self._cards()])
        table = self._draw()
        schemas.POOL.write(survey.table, self.study.tables / "pool.parquet")
        self._write_planted(survey)
        schemas.UNITS.write(table, self.study.tables / "units.parquet")
        self._describe_pool()
        self.study.update_manifest(
            protocol=self.protocol.identity,
            rules=self.protocol.rules.model_dump(mode="json"),
            models={
                name: {
                    "weights_hash": model.weights_hash,
                    "parameters": model.card.parameters,
                    "layers": len(model.layer_map.layers),
                    "units": model.layer_map.unit_count,
                    "canonical_units": sum(len(c) for c in model.layer_map.representatives().values()),
                    "twin": model.card.twin,
                    "pool_seen_in_training": self.pool.seen_by(model.card),
                    "card": model.card.model_dump(mode="json"),
                }
                for name, model in models.items()
            },
        )
        self.study.finish_stage("units", inputs, {"pool": survey.hash, "units": hash_rows(table)})

    def _weights(self) -> dict[str, str]:
        return {name: model.weights_hash for name, model in self.models().items()}

    def _cards(self) -> dict[str, Any]:
        return {name: model.card.model_dump(mode="json") for name, model in self.models().items()}

    def _draw(self) -> pd.DataFrame:
        """Draw units of every model; a twin has its model's units."""
        rules = self.protocol.rules.units
        count = reserve(self.experiment.units.per_model, rules.drawn, rules.used)
        parts: list[pd.DataFrame] = []
        for name, model in self.models().items():
            drawn = draw_units(
                name, model.layer_map, rule=rules.rule, count=count, seed=self.seed, aggregator=rules.aggregator
            )
            layers = [model.layer_map[unit.space] for unit in drawn]
            parts.append(
                pd.DataFrame(
                    {
                        **unit_columns(drawn),
                        "draw": range(len(drawn)),
                        "kind": [layer.kind for layer in layers],
                        "depth": [layer.depth for layer in layers],
                        "width": [layer.width for layer in layers],
                        "twin": model.card.twin,
                    }
                )
            )
        return schemas.concatenate(parts, schemas.UNITS)

    def _describe_pool(self) -> None:
        """Write the manifest's entry for the pool, and mark studies that measure nothing."""
        facts = {
            "source": self.experiment.pool.source.partition(":")[0],
            "name": self.pool.name,
            "view": self.experiment.pool.view,
            "crop": self.experiment.pool.crop,
            **self.survey.facts(),
            "left_out": {
                reason: {"count": len(names), "first": list(names[:100])}
                for reason, names in self.pool.left_out.items()
            },
            "remarks": list(self.pool.remarks),
        }
        self.study.update_manifest(pool=facts)
        if self.pool.few_sources:
            self.study.add_note(PLUMBING)

    def activations(self) -> None:
        """Read every model's activations in one pass each."""
        inputs = hash_settings([self.study.stage_outputs("units"), self._weights(), self.device.type])
        if self.study.stage_is_done("activations", inputs):
            return
        outputs: dict[str, str] = {}
        ties: dict[str, float] = {}
        if self.engine.is_elsewhere:
            self._measure_elsewhere()
        for name, model in self.models().items():
            plan, folder = self.plan(model), self.study.activations(name)
            with self.study.timed("activations", name):
                if self.engine.is_elsewhere:
                    measured = gather_activations(plan, folder)
                else:
                    measured = measure_activations(plan, folder, reporter=self.reporter)
            outputs[name] = measured.hash
            ties[name] = round(float(measured.extreme_tie_share().mean()), 6)
        self.study.finish_stage("activations", inputs, outputs, tie_share_of_extremes=ties)

    def _measure_elsewhere(self) -> None:
        """Let others measure the shards that are missing, those of all models at once."""
        models = self.models()
        site = Site.of(self.study, self.device, ("units",))
        pieces = [
            piece
            for name, model in models.items()
            for piece in missing_shards(
                self.plan(model),
                self.study.activations(name).resolve(),
                PlanEquipment(site, name, self.entries[name], model.card.twin),
            )
        ]
        if not pieces:
            return
        total = len(models) * len(self.survey.table)
        with (
            self.study.timed("activations", f"shards, engine {self.engine.name}"),
            self.reporter.task(f"Activations of {_count(models)}", total) as advance,
        ):
            advance(total - sum(piece.stop - piece.start for piece in pieces))
            for _ in self.engine.run(pieces, device=self.device, advance=advance):
                pass

    def exemplars(self) -> None:
        """Choose natural exemplars, flag units, and store the pictures."""
        inputs = hash_settings([self.study.stage_outputs("activations"), self.study.stage_outputs("units")])
        if self.study.stage_is_done("exemplars", inputs):
            return
        rows: list[dict[str, Any]] = []
        statistics: list[pd.DataFrame] = []
        with self.study.timed("exemplars", "choosing"):
            chosen: dict[str, list[Unit]] = {}
            models = self.models()
            with self.reporter.task("Choosing exemplars", len(models)) as advance:
                for name, model in models.items():
                    table, used, model_rows = self._choose(model, chosen)
                    statistics.append(table)
                    chosen[name] = used
                    rows += model_rows
                    advance(1)
            rows += self._choose_planted()
            stimuli = schemas.STIMULI.conform(pd.DataFrame(rows))
            described = schemas.concatenate(statistics, schemas.UNIT_STATISTICS)
        with self.study.timed("exemplars", "storing pictures"):
            places = dict(zip(self.survey.table["picture"], self.survey.places.tolist()))
            pictures = {places[picture]: picture for picture in stimuli["picture"].unique()}
            stored = store_crops(self.study, self.pool, pictures, self.experiment.pool.crop, self.reporter)
            for place, picture in stored.items():
                check_picture(picture, pictures[place], self.pool.entries[place].source)
        schemas.UNIT_STATISTICS.write(described, self.study.tables / "statistics.parquet")
        schemas.STIMULI.write(stimuli, self.study.stimuli_path)
        natural = stimuli[stimuli["model"].isin(self.models())]
        repeated = float(natural["group_repeated"].mean()) if len(natural) else 0.0
        if repeats_groups(repeated, self.protocol):
            self.study.add_note(PLUMBING)
        self.study.finish_stage(
            "exemplars",
            inputs,
            {"stimuli": hash_rows(stimuli), "statistics": hash_rows(described)},
            used={name: len(units) for name, units in chosen.items()},
            flags={
                name: part["flag"].value_counts().drop(labels="", errors="ignore").to_dict()
                for name, part in described.groupby("model", sort=False)
            },
            share_of_pictures_repeating_a_group=round(repeated, 6),
        )

    def _choose(
        self, model: Model, chosen: dict[str, list[Unit]]
    ) -> tuple[pd.DataFrame, list[Unit], list[dict[str, Any]]]:
        """Choose a model's used units and their exemplars."""
        plan, windows = self.plan(model), self.windows
        protocol = plan.protocol
        measured = read_activations(self.study.activations(model.name), plan)
        ranges = layer_ranges(measured, model.layer_map)
        orders = {unit: full_order(measured.column(unit), plan.column(unit), plan.ties) for unit in plan.units}
        described = [
            describe(
                measured.column(unit),
                orders[unit],
                ranges[unit.space],
                windows,
                protocol.rules.units.constant_range,
            )
            for unit in plan.units
        ]
        flags = [row.flag for row in described]
        used = choose_used(flags, self.experiment.units.per_model)
        original = chosen.get(model.name.removesuffix(TWIN_SUFFIX)) if model.card.twin else None
        if original is not None:
            # A twin is scored on its model's units; those that are constant in it get no tasks.
            same = {(unit.layer, unit.basis, unit.index) for unit in original}
            used = [
                flag != "constant" and (unit.layer, unit.basis, unit.index) in same
                for unit, flag in zip(plan.units, flags)
            ]
        elif not any(used):
            raise ActivationError(
                f"All {len(flags)} units drawn from {model.name} are constant over the pool, so no unit can be "
                "explained. Check its weights, or leave the model out."
            )
        units = [unit for unit, kept in zip(plan.units, used) if kept]
        pool, identity = self.survey.table, protocol.identity
        groups, labels = _numbers(pool["group"]), _numbers(pool["label"])
        rows = [
            row
            for unit in units
            for row in exemplar_rows(
                unit,
                choose_exemplars(
                    orders[unit], windows, protocol, seed=self.seed, unit=unit, groups=groups, labels=labels
                ),
                measured.column(unit),
                pool,
                identity,
            )
        ]
        return statistics_table(list(plan.units), described, used), units, rows

    def _choose_planted(self) -> list[dict[str, Any]]:
        """Choose the pictures of the planted units, for catch and practice trials."""
        pool = self.survey.table
        protocol = self.protocol
        tasks = min(PLANTED_TASKS, len(pool) // (2 * (protocol.references_per_side + 1)))
        protocol = protocol.override({"tasks": {"per_unit": tasks, "distinct_classes": False}})
        # Queries are the most extreme pictures, so that whoever looks can't miss the answer.
        references = Window(tasks, tasks * protocol.references_per_side)
        windows = Windows(len(pool), references, {"easy": Window(0, tasks)})
        groups = _numbers(pool["group"])
        keys = np.array([detector.unit.key(self.seed) for detector in DETECTORS], dtype=np.uint64)
        ties = content_ties(keys, picture_keys(list(pool["picture"])))
        rows: list[dict[str, Any]] = []
        for number, detector in enumerate(DETECTORS):
            column = self.survey.planted[:, number]
            order = full_order(column, number, ties)
            chosen = choose_exemplars(order, windows, protocol, seed=self.seed, unit=detector.unit, groups=groups)
            rows += exemplar_rows(detector.unit, chosen, column, pool, "planted")
        return rows

    def visualizations(self) -> None:
        """Make synthetic pictures, if the experiment asks for them."""
        exemplars = self.study.stage_outputs("exemplars")
        inputs = hash_settings([exemplars, self.experiment.hash, self.device.type])
        if self.study.stage_is_done("visualizations", inputs):
            return
        stimuli = self.study.stimuli()
        natural = stimuli[stimuli["condition"] == "natural"]
        if "synthetic" not in self.experiment.stimuli.conditions:
            self.study.finish_stage("visualizations", inputs, {})
            return
        twins = self.experiment.visualization.twins
        models = {name: model for name, model in self.models().items() if twins or not model.card.twin}
        own = {name: model.card.input.size for name, model in models.items()}
        warning = canvas_warning(self.experiment.visualization, own)
        if warning:
            self.reporter.say(warning)
        rows = paint_planted(self.study, planted_side(self.experiment))
        if self.engine.is_elsewhere:
            rows += self._make_sets_elsewhere(models)
        else:
            for name, model in models.items():
                with self.study.timed("visualizations", name):
                    rows += make_sets(self.study, model, *self.to_visualize(model), reporter=self.reporter)
        synthetic = schemas.STIMULI.conform(pd.DataFrame(rows))
        schemas.STIMULI.write(schemas.concatenate([natural, synthetic], schemas.STIMULI), self.study.stimuli_path)
        own = synthetic[synthetic["model"].isin(self.models())]
        accepted = own.groupby(["model"])["accepted"].mean()
        self.study.finish_stage(
            "visualizations",
            inputs,
            {"stimuli": hash_rows(synthetic)},
            accepted_share={name: round(float(share), 6) for name, share in accepted.items()},
            canvases={name: self.canvas(model) for name, model in models.items()},
            warnings=[warning] if warning else [],
        )

    def _make_sets_elsewhere(self, models: dict[str, Model]) -> list[dict[str, Any]]:
        """Let others make the sets of all models; returns their rows in the order that this process would have."""
        site = Site.of(self.study, self.device, ("units", "activations", "exemplars"))
        pieces = [
            piece
            for name, model in models.items()
            for piece in set_pieces(
                SetEquipment(site, name, self.entries[name], model.card.twin),
                self.study,
                self.visualized(model, self.drawn(name)),
                self.device,
            )
        ]
        made: dict[int, list[dict[str, Any]]] = {}
        with (
            self.study.timed("visualizations", f"sets, engine {self.engine.name}"),
            self.reporter.task(
                f"Visualisations of {_count(models)}", sum(piece.stop - piece.start for piece in pieces)
            ) as advance,
        ):
            made.update(self.engine.run(pieces, device=self.device, advance=advance))
        return [row for number in range(len(pieces)) for row in made[number]]

    def trials(self) -> None:
        """Lay out the trials of all sessions."""
        inputs = hash_settings(
            [self.study.stage_outputs("exemplars"), self.study.stage_outputs("visualizations"), self.experiment.hash]
        )
        if self.study.stage_is_done("trials", inputs):
            return
        with self.study.timed("trials", "laying out"):
            tasks = assemble_tasks(self.study.stimuli())
            waves = plan_waves(self.study, tasks)
            cells = [cell for wave in waves for cell in wave_cells(tasks, wave, self.protocol, self.seed)]
            with self.reporter.task("Laying out sessions", sum(cell.planned for cell in cells)) as advance:
                trials = lay_out_trials(cells, advance)
            schemas.TRIALS.write(trials, self.study.trials_path)
        self.study.update_manifest(waves=[wave.facts() for wave in waves])
        self.study.finish_stage(
            "trials", inputs, {"trials": hash_rows(trials)}, sessions=int(trials["session"].nunique())
        )


def _count(models: Sized) -> str:
    return f"{len(models)} model{'' if len(models) == 1 else 's'}"


def _numbers(names: pd.Series) -> NDArray[np.int64]:
    """Return a number for each distinct name, -1 where there is none."""
    return np.asarray(pd.factorize(names, sort=True)[0], dtype=np.int64)

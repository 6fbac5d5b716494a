"""What verbs say with ``--json``: the tables that they print, under the names of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.dataset import Description
    from analysis.leaderboard.standings import Leaderboard
    from analysis.leaderboard.verification import Verifications
    from analysis.machines import MachineScore
    from analysis.power import Assessment, Optimum
    from analysis.power.forecast import Forecast as SessionForecast
    from analysis.report import Report, Written
    from benchmark.model_zoo import Model
    from benchmark.smoke_test import SmokeTest
    from benchmark.study import Study
    from benchmark.workflow.leaderboard import Addition
    from stimuli.forecast import BuildForecast
    from webapp.payment import Payroll
    from webapp.simulation import Simulation

Facts = dict[str, Any]


def study_facts(study: Study) -> Facts:
    """Return what a build has made."""
    manifest = study.manifest
    stages = manifest["stages"]
    exemplars = stages.get("exemplars", {})
    accepted = stages.get("visualizations", {}).get("accepted_share", {})
    return {
        "study": study.root, "protocol": manifest["protocol"], "notes": manifest["notes"], "pool": manifest["pool"],
        "stages": list(stages),
        "models": [
            {
                "model": name, "units_used": used, "flagged": exemplars["flags"].get(name, {}),
                "synthetic_sets_accepted": accepted.get(name),
            }
            for name, used in exemplars.get("used", {}).items()
        ],
        "warnings": stages.get("visualizations", {}).get("warnings", []),
        "sessions": stages["trials"]["sessions"] if "trials" in stages else None,
        "hash": study.hash if "trials" in stages else None,
    }  # fmt: skip


def wave_facts(study: Study) -> list[Facts]:
    """Return the waves of a study that was extended."""
    from benchmark.waves import read_waves

    return [
        {"wave": wave.number, "cells": [cell.name for cell in wave.cells], "judged_again": wave.anchor or None}
        for wave in read_waves(study.manifest)
    ]


def forecast_facts(forecast: BuildForecast) -> Facts:
    """Return what a build would take."""
    return {
        "stages": forecast.items, "seconds": forecast.seconds, "bytes": forecast.bytes, "pictures": forecast.pictures,
        "protocol": forecast.protocol, "sessions": forecast.sessions, "answers": forecast.answers,
        "payment_usd": forecast.payment_usd, "warnings": forecast.warnings,
    }  # fmt: skip


def score_facts(scores: Sequence[MachineScore], study: Study) -> Facts:
    """Return machine scores with their intervals and controls."""
    rows = [score.row() | {"control": score.control, "verdict": score.verdict} for score in scores]
    return {"study": study.root, "notes": study.manifest["notes"], "scores": rows}


def simulation_facts(simulation: Simulation) -> Facts:
    """Return the outcome of simulated people, and their proportions next to the true ones."""
    filled = {state.name: state for state in simulation.cells}
    cells = [
        {
            "cell": name, "slots": filled[name].slots if name in filled else None,
            "slots_filled": filled[name].usable if name in filled else None, "fewest_judgements": fewest,
            "most_judgements": most,
        }
        for name, (fewest, most) in simulation.balance.items()
    ]  # fmt: skip
    recovered = [
        {
            "model": own.model, "condition": own.condition, "difficulty": own.difficulty, "references": own.references,
            "answers": own.answers, "recovered": own.estimate, "true": own.truth, "agrees": own.agrees,
        }
        for own in simulation.recovered
    ]  # fmt: skip
    return {
        "people": len(simulation.stories), "outcomes": simulation.outcomes,
        "answers": sum(len(story.acknowledged) for story in simulation.stories), "resent": simulation.resent,
        "sessions": len(simulation.sessions), "usable": simulation.usable, "exclusions": simulation.exclusions,
        "cells": cells, "recovered": recovered, "seconds": simulation.seconds, "faster": simulation.faster,
        "database": simulation.database, "files": simulation.files,
    }  # fmt: skip


def payroll_facts(payroll: Payroll) -> Facts:
    """Return how many people are paid what; who they are stands in the file alone."""
    return {
        "paid_in_full": payroll.count("full"), "paid_in_part": payroll.count("partial"),
        "not_paid": payroll.count("none"), "total_usd": payroll.total, "note": payroll.note,
    }  # fmt: skip


def import_facts(described: Description, answers: int, sessions: int, folder: Path) -> Facts:
    """Return what an import has read."""
    return {
        "name": described.name, "protocol": described.protocol, "counts": described.counts,
        "not_recorded": described.missing, "notes": described.notes, "answers": answers, "sessions": sessions,
        "folder": folder,
    }  # fmt: skip


def report_facts(report: Report, written: Written) -> Facts:
    """Return what the answers say, and where the report is; every estimate is in its files."""
    return {
        "notes": report.notes, "findings": report.headline, "sections": [own.name for own in report.sections],
        "figures": written.figures, "tables": written.tables, "estimates": written.estimates, "page": written.page,
        "folder": written.folder,
    }  # fmt: skip


def power_facts(assessment: Assessment) -> Facts:
    """Return what a design can detect."""
    return {
        "goal": assessment.goal, "smallest_effect": assessment.smallest, "table": assessment.facts,
        "sentences": assessment.sentences,
    }  # fmt: skip


def optimum_facts(optimum: Optimum) -> Facts:
    """Return how a budget is best spent."""
    names = (
        "aim", "budget", "models", "units", "sessions", "answers_per_unit", "cost", "standard_error", "half_width",
    )  # fmt: skip
    return {name: getattr(optimum, name) for name in names} | {
        "table": optimum.ladder, "sentences": optimum.sentences,
    }  # fmt: skip


def outlook_facts(forecast: SessionForecast) -> Facts:
    """Return how many more sessions are needed."""
    return {
        "width": forecast.width, "more_sessions": forecast.total, "table": forecast.frame(),
        "sentences": forecast.sentences,
    }  # fmt: skip


def card_facts() -> Facts:
    """Return the models that have cards, and those that installed packages offer."""
    from benchmark.model_card import card_names
    from benchmark.model_sources import load_card
    from benchmark.model_zoo import weights_on_machine
    from benchmark.own_models import find_entry_points

    rows = []
    for name in card_names():
        card = load_card(name)
        rows.append(
            {
                "card": name, "parameters": card.parameters,
                "trained_on": list(card.training.data) if card.training else None,
                "training_images": card.training.images if card.training else None,
                "top1": card.accuracy.top1 if card.accuracy else None, "weights_here": bool(weights_on_machine(card)),
            }
        )  # fmt: skip
    offered = [{"name": name, "function": address} for name, address in find_entry_points().items()]
    return {"cards": rows, "offered": offered}


def model_facts(model: Model) -> Facts:
    """Return what a model is, and every eligible layer of it."""
    card, layer_map = model.card, model.layer_map
    distinct = layer_map.representatives()
    layers = [
        {"layer": own.name, "kind": own.kind, "units": own.width, "canonical": len(distinct[own.name])}
        for own in layer_map.layers
    ]  # fmt: skip
    return {
        "model": card.name, "title": card.title, "family": card.family, "parameters": card.parameters,
        "trained_on": list(card.training.data) if card.training else None,
        "training_images": card.training.images if card.training else None,
        "top1": card.accuracy.top1 if card.accuracy else None, "input": card.input.size, "licence": card.licence,
        "units": layer_map.unit_count, "layers": layers,
        "left_out": [{"layer": name, "reason": reason} for name, reason in layer_map.unreadable],
    }  # fmt: skip


def smoke_test_facts(tested: SmokeTest) -> Facts:
    """Return what was tested of a model."""
    checks = [
        {
            "check": own.name, "state": "note" if own.doubtful else "ok" if own.passed else "fail", "found": own.words,
            "seconds": own.seconds,
        }
        for own in tested.checks
    ]  # fmt: skip
    return {
        "model": tested.card.name, "passed": tested.passed, "layers": tested.layers, "units": tested.units,
        "weights_hash": tested.weights_hash, "device": tested.device, "checks": checks,
    }  # fmt: skip


def addition_facts(added: Addition) -> Facts:
    """Return what was added to the leaderboard."""
    return {
        "model": added.model, "files": added.paths, "new": added.new, "study": added.study, "seconds": added.seconds,
        "rows": added.frame(),
    }  # fmt: skip


def board_facts(board: Leaderboard, *, with_validity: bool = False) -> Facts:
    """Return the rows of the leaderboard at full precision and, if asked for, what each score may mean."""
    facts: Facts = {"rows": board.frame()}
    if with_validity:
        facts["validity"] = [
            {
                "model": row.name, "table": table.title, "check": check.name, "verdict": check.verdict,
                "sentence": check.sentence, "estimate": check.estimate, "observer": check.observer,
            }
            for table in board
            for row in table.rows
            for check in row.checks
        ]  # fmt: skip
    return facts


def verification_facts(outcome: Verifications) -> Facts:
    """Return what verifying result files has found, file by file."""
    files = [
        {
            "file": own.path, "result": own.result.label if own.result is not None else None, "holds": own.holds,
            "inspections": own.inspections, "left_open": own.left_open,
        }
        for own in outcome
    ]  # fmt: skip
    return {"holds": outcome.holds, "files": files}

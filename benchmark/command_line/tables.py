"""What the command line prints: tables for a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from benchmark.commands import observe_command, spell_command
from benchmark.plumbing import PLUMBING, SHOWN
from benchmark.progress import spell_duration

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from analysis.dataset import Description
    from analysis.machines.performance import MachineScore
    from analysis.power import Assessment, Optimum
    from analysis.power.forecast import Forecast as SessionForecast
    from analysis.report import Report, Written
    from benchmark.bases.base import BasisCard
    from benchmark.doctor import Diagnosis
    from benchmark.estimate import Estimate
    from benchmark.model_card import ModelCard
    from benchmark.model_zoo import Model
    from benchmark.smoke_test import SmokeTest
    from benchmark.study import Study
    from stimuli.forecast import BuildForecast
    from webapp.payment import Payroll
    from webapp.recruitment import Briefing
    from webapp.simulation import Simulation
    from webapp.submissions import Reconciliation


def open_console() -> Console:
    """Return the console that everything is printed on: plain text, unless it is a terminal."""
    console = Console(highlight=False, soft_wrap=False)
    # Into a file or a pipe there is no terminal to fit: give tables room.
    return console if console.is_terminal else Console(highlight=False, width=140)


def print_whole(text: str) -> None:
    """Print lines that hold a path, an address or a command: unbroken, whatever the terminal's width.

    What a console wraps has line breaks in it, and can't be copied any more.
    """
    print(text)


def print_next(*commands: str) -> None:
    """Print the commands that come next, each on a line of its own."""
    print_whole("\n".join(["Next:", *(f"  {command}" for command in commands)]))


def _table(*columns: str, right: Sequence[str] = (), title: str = "") -> Table:
    table = Table(
        box=None, title=title or None, title_justify="left", title_style="bold", pad_edge=False, header_style="dim"
    )
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", overflow="fold", no_wrap=column == "card"
        )
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table so that no word in it is broken; where it does not fit so, a block of lines for each row.

    A word that is wider than half the terminal, such as a path, is broken all the same.
    """
    cells = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    texts = [[Text.from_markup(text).plain for text in own] for own in cells]
    longest = [max((len(word) for text in own for word in text.split()), default=0) for own in texts]
    least = [min(own, console.width // 2) for own in longest]
    widths = [max(len(line) for text in own for line in text.split("\n")) for own in texts]
    room = console.width - 2 * (len(widths) - 1)
    while sum(widths) > room and widths != least:
        # The widest column of words gives a character; numbers are the last to be broken.
        spare = [(width > own, column.justify != "right", width - own)
                 for width, own, column in zip(widths, least, table.columns)]  # fmt: skip
        widest = max(range(len(widths)), key=lambda turn: spare[turn])
        widths[widest] -= 1
    if sum(widths) <= room:
        for column, width in zip(table.columns, widths):
            column.width = width
        console.print(table)
        return
    for row in zip(*(own[1:] for own in cells)):
        block = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        block.add_column(style="dim")
        block.add_column(overflow="fold")
        for own, cell in zip(cells, row):
            block.add_row(own[0], cell)
        console.print(block)
        console.print()


def print_scores(scores: Sequence[MachineScore], study: Study) -> None:
    """Print machine scores with intervals, twin and excess beside them, their controls, and what they say in words."""
    from benchmark.workflow import why_no_regression

    console = open_console()
    if PLUMBING in study.manifest["notes"]:
        console.print(f"\n[bold red]{PLUMBING.capitalize()}[/]: the pool is crops of a few photographs, so {SHOWN}.")
    if not scores:
        console.print(
            "No trained model has a score yet: no observer but the low-level one has answered about one. No model is "
            "observed by itself; take an observer made of another model."
        )
        return
    console.print(f"\nProportion correct, 95 % intervals over units. Protocol {scores[0].protocol}.\n")
    headline = [score for score in scores if score.is_headline]
    controls = [score for score in scores if not score.is_headline]
    for name in sorted({score.observer for score in headline}):
        _print_scores_by(console, name, [score for score in headline if score.observer == name])
    if controls:
        console.print("[bold]Controls[/]: answers without references or to shuffled ones should be at chance, .5.\n")
        table = _table("model", "condition", "control", "by", "correct", "chance", "units", right=("units",))
        for score in controls:
            at_chance = score.score.low <= 0.5 <= score.score.high
            expected = score.control in ("no references", "shuffled references")
            judged = "–" if not expected else "at chance" if at_chance else "[bold red]not at chance[/]"
            table.add_row(
                escape(score.model), _spell_condition(score), score.control, escape(score.observer), str(score.score),
                judged, str(score.score.n),
            )  # fmt: skip
        print_table(console, table)
        console.print()
    for score in headline:
        if score.verdict and score.observer.startswith(("features", "lpips", "dreamsim")):
            console.print(escape(score.verdict))
    apart = {score.model: score.kept_apart for score in scores if score.kept_apart}
    if apart:
        console.print("Flagged units kept apart: " + ", ".join(f"{model} {n}" for model, n in apart.items()) + ".")
    models = study.manifest["models"]
    sizes = {score.model: models.get(score.model, {}).get("parameters") for score in scores}
    reason = why_no_regression(sizes)
    if reason and len(sizes) > 1:
        console.print(reason)


def _print_scores_by(console: Console, observer: str, scores: Sequence[MachineScore]) -> None:
    """Print one observer's scores: a table where it fits, else a block for each score."""
    kin = sorted({score.model for score in scores if score.related})
    related = f" Relative of {', '.join(kin)}: such scores are never ranked." if kin else ""
    console.print(f"By [bold]{escape(observer)}[/].{escape(related)}")
    table = _score_table(scores)
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    if not console.is_terminal:
        console.width = max(console.width, needed)
    if needed <= console.width:
        console.print(table)
        console.print()
        return
    for score in scores:
        console.print(f"\n{escape(score.model)}, {_spell_condition(score)}, {score.score.n} units")
        grid = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for name, estimate in _named_scores(score):
            grid.add_row(f"  {name}", str(estimate) if estimate else "–")
        console.print(grid)
    console.print()


def _named_scores(score: MachineScore) -> list[tuple[str, Estimate | None]]:
    return [
        ("correct", score.score), ("low-level", score.low_level), ("excess", score.excess), ("twin", score.twin),
        ("trained - twin", score.trained_minus_twin),
    ]  # fmt: skip


def _spell_condition(score: MachineScore) -> str:
    return escape(score.condition + ("" if score.difficulty == "easy" else f", {score.difficulty}"))


def _score_table(scores: Sequence[MachineScore]) -> Table:
    """Return a table of scores, each with its interval."""
    named = [name for name, _ in _named_scores(scores[0])]
    table = _table("model", "condition", *named, "units", right=("units",))
    for score in scores:
        cells = [str(estimate) if estimate else "–" for _, estimate in _named_scores(score)]
        table.add_row(escape(score.model), _spell_condition(score), *cells, str(score.score.n))
    return table


def print_simulation(simulation: Simulation) -> None:
    """Print the outcome of simulated people, and their proportions next to the true ones."""
    console = open_console()
    outcomes = ", ".join(f"{count} {escape(outcome)}" for outcome, count in simulation.outcomes.items())
    answers = sum(len(story.acknowledged) for story in simulation.stories)
    console.print(
        f"\n{len(simulation.stories)} simulated people: {outcomes}.\n{answers:,} answers acknowledged in "
        f"{spell_duration(simulation.seconds)}"
        + (f", {simulation.resent} messages sent again" if simulation.resent else "")
        + f"; in {escape(simulation.database)}.",
        soft_wrap=True,
    )
    if simulation.faster != 1:
        console.print(
            f"[bold red]Time ran {simulation.faster:g} times faster for them than for the server[/]: by its rules on "
            "time their sessions may not be usable, and their slots are offered anew. Those rules are left out below."
        )
    missed = sum(story.miscounted for story in simulation.stories)
    if missed:
        console.print(f"[bold red]{missed} answers were not recognised when they came twice.[/]")
    if len(simulation.sessions):
        finished = int((simulation.sessions["session_status"] == "complete").sum())
        why = ", ".join(f"{row['fail']} {row['rule']}" for _, row in simulation.exclusions.iterrows() if row["fail"])
        console.print(
            f"{len(simulation.sessions)} sessions begun, {finished} finished, {simulation.usable} usable"
            + (f" (of the finished ones fail: {why})" if why else "") + ".\n"
        )  # fmt: skip
    else:
        console.print("Without the server's database, answers of all attentive people count below.\n")
    filled = {state.name: f"{state.usable} of {state.slots}" for state in simulation.cells}
    coverage = _table("cell", "slots filled", "judgements per unit", right=("slots filled", "judgements per unit"))
    for name, (fewest, most) in simulation.balance.items():
        coverage.add_row(escape(name), filled.get(name, "–"), str(fewest) if fewest == most else f"{fewest} to {most}")
    console.print(coverage)
    console.print()
    table = _table("model", "condition", "references", "answers", "recovered", "true", "",
                   right=("answers", "true"))  # fmt: skip
    for item in simulation.recovered:
        table.add_row(
            escape(item.model), f"{item.condition}, {item.difficulty}", item.references, f"{item.answers:,}",
            str(item.estimate), f"{item.truth:.3f}"[1:], "" if item.agrees else "[bold red]outside[/]",
        )  # fmt: skip
    print_table(console, table)
    print_whole("\n" + "\n".join(str(path) for path in simulation.files))


def print_forecast(forecast: BuildForecast) -> None:
    """Print what a build would take."""
    console = open_console()
    table = _table("stage", "what", "time", "disk", right=("time", "disk"))
    for item in forecast.items:
        table.add_row(item.stage, escape(item.what), spell_duration(item.seconds), spell_bytes(item.bytes))
    table.add_row("[bold]in all[/]", "", spell_duration(forecast.seconds), spell_bytes(forecast.bytes))
    print_table(console, table)
    console.print(
        f"\n{forecast.pictures:,} pictures, protocol {forecast.protocol}. People's answers as planned: "
        f"{forecast.sessions:,} sessions, {forecast.answers:,} answers, USD {forecast.payment_usd:,.0f} for "
        "participants. Nothing was built."
    )
    for warning in forecast.warnings:
        console.print(escape(warning))


def print_study(study: Study) -> None:
    """Print what a build has made."""
    console = open_console()
    manifest = study.manifest
    pool = manifest["pool"]
    stages = manifest["stages"]
    print_whole(f"\nStudy {study.root}")
    console.print(
        f"Protocol {manifest['protocol']}, {pool['size']:,} pictures in {pool['groups']:,} groups"
        + (f", {pool['unreadable_skipped']} unreadable files skipped" if pool["unreadable_skipped"] else "")
        + (f", {pool['exact_copies_left_out']} exact copies left out" if pool["exact_copies_left_out"] else "")
        + "."
    )
    for note in manifest["notes"]:
        console.print(f"[bold red]{note.capitalize()}[/]: " + _why(study))
    table = _table("model", "units used", "flagged", "synthetic sets accepted", right=("units used",))
    accepted = stages.get("visualizations", {}).get("accepted_share", {})
    for name, used in stages.get("exemplars", {}).get("used", {}).items():
        flags = stages["exemplars"]["flags"].get(name, {})
        spelled = ", ".join(f"{count} {flag}" for flag, count in flags.items()) or "none"
        share = f"{100 * accepted[name]:.0f} %" if name in accepted else "–"
        table.add_row(escape(name), str(used), spelled, share)
    print_table(console, table)
    for warning in stages.get("visualizations", {}).get("warnings", ()):
        console.print(escape(warning))
    if "trials" in stages:
        console.print(f"{stages['trials']['sessions']:,} sessions laid out. Hash of the study: {study.hash}")
    if "trials" not in stages:
        print_next(spell_command("build", study.root / "experiment.toml", "--out", study.root))
        return
    print_next(
        observe_command(study.root, manifest["models"]),
        spell_command("gallery", study.root),
    )


def _why(study: Study) -> str:
    share = study.manifest["stages"].get("exemplars", {}).get("share_of_pictures_repeating_a_group", 0)
    return f"{100 * share:.0f} % of the pictures show a source or near-duplicate that their task shows already."


def print_cards(found: Mapping[str, Any]) -> None:
    """Print the models that have cards, and those that installed packages offer; see ``facts.card_facts``."""
    table = _table("card", "parameters", "trained on", "top-1", "weights here", right=("parameters", "top-1"))
    for row in found["cards"]:
        trained = row["trained_on"]
        table.add_row(
            row["card"], spell_count(row["parameters"] or 0),
            f"{', '.join(trained)} ({spell_count(row['training_images'])})" if trained else "?",
            f"{row['top1']:.1f}" if row["top1"] else "–", "yes" if row["weights_here"] else "no",
        )  # fmt: skip
    console = open_console()
    print_table(console, table)
    if found["offered"]:
        names = {row["card"] for row in found["cards"]}
        own = _table("offered by installed packages", "function")
        for row in found["offered"]:
            first = " (vimi's card comes first)" if row["name"] in names else ""
            own.add_row(escape(row["name"]), escape(row["function"]) + first)
        console.print()
        print_table(console, own)
    print_whole(
        "\nAny other timm model needs no card:\n  vimi models show timm:NAME"
        "\nNor does a function of yours that returns a network:\n  vimi models check MODULE:FUNCTION"
    )


def print_model(model: Model, card: ModelCard, weights: str, every_layer: bool) -> None:
    """Print a model's card, layers and units."""
    from benchmark.model_zoo import weights_on_machine

    console = open_console()
    table = _table("", "")
    training = card.training
    table.add_row("model", escape(f"{card.title} ({card.network}, family {card.family})"))
    table.add_row(
        "parameters", f"{model.card.parameters:,}" + (f", {card.parameters_note}" if card.parameters_note else "")
    )
    trained = (
        f"{', '.join(training.data)}: {training.images:,} pictures"
        if training
        else "unknown: state it in the experiment" + (" or beside the network" if card.is_own else "")
    )
    if training and training.note:
        trained += f" ({training.note})"
    table.add_row("trained on", "nothing: random weights" if card.twin else trained)
    if card.accuracy:
        table.add_row("top-1", f"{card.accuracy.top1} % ({card.accuracy.measured})")
    spec = card.input
    note = f" ({card.input_note})" if card.input_note else ""
    table.add_row("input", f"{spec.size} px, crop {spec.crop_ratio:g}, {spec.interpolation}{escape(note)}")
    table.add_row("licence", card.licence)
    table.add_row("source", escape(card.source or "–"))
    if not card.twin:
        here = weights_on_machine(card)
        where = (
            f"those of {card.network}"
            if card.is_own
            else f"on this machine: {here}"
            if here
            else f"not on this machine ({card.weights.source}); shown with random ones"
        )
        table.add_row("weights", escape(weights or where))
    layer_map = model.layer_map
    distinct = sum(len(channels) for channels in layer_map.representatives().values())
    table.add_row("eligible", f"{len(layer_map.layers)} layers, {layer_map.unit_count:,} units, {distinct:,} canonical")
    print_table(console, table)
    console.print()
    representatives = layer_map.representatives()
    rows: dict[tuple[str, str], list[tuple[str, int, int]]] = {}
    for layer in layer_map.layers:
        key = layer.name if every_layer else re.sub(r"\d+(?=\.|[a-z]?_|[a-z]?\.)", "#", layer.name)
        rows.setdefault((key, layer.kind), []).append((layer.name, layer.width, len(representatives[layer.name])))
    listing = _table("layers", "kind", "count", "units", "canonical", right=("count", "units", "canonical"))
    for (key, kind), members in rows.items():
        listing.add_row(
            key, kind, str(len(members)), f"{sum(m[1] for m in members):,}", f"{sum(m[2] for m in members):,}"
        )
    print_table(console, listing)
    for layer_name, reason in layer_map.unreadable:
        console.print(f"[dim]left out: {escape(layer_name)}, because {escape(reason)}[/]")


def print_smoke_test(tested: SmokeTest) -> None:
    """Print what a smoke test found: every check, whether it passed, and what it says."""
    console = open_console()
    table = _table("", "check", "", "seconds", right=("seconds",))
    for check in tested.checks:
        mark = "[yellow]note[/]" if check.doubtful else "[green]ok[/]" if check.passed else "[bold red]fail[/]"
        table.add_row(mark, check.name, escape(check.words), f"{check.seconds:.1f}")
    print_table(console, table)
    if tested.passed:
        console.print(f"\n{escape(tested.card.name)} can be studied. Tested in {spell_duration(tested.seconds)}.")


def print_findings(findings: Sequence[Diagnosis]) -> None:
    """Print what the doctor found."""
    console = open_console()
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fail": "[bold red]fail[/]"}
    table = _table("", "", "")
    for finding in findings:
        table.add_row(marks[finding.state], finding.what, escape(finding.found))
    print_table(console, table)
    failed = sum(finding.state == "fail" for finding in findings)
    console.print(f"\n{failed} problem{'s' if failed > 1 else ''} found." if failed else "\nEverything is in place.")


def print_basis(card: BasisCard, path: Path) -> None:
    """Print what is known of a basis."""
    console = open_console()
    console.print(f"\n[bold]{escape(card.model)}/{escape(card.space)}[/]", soft_wrap=True)
    table = _table("", "")
    learned = card.training
    table.add_row("kind", card.kind + (f", control: {card.control}" if card.control else ""))
    table.add_row(
        "latents", f"{card.width:,} in {card.dimensions:,} dimensions" + (f", {card.k} active" if card.k else "")
    )
    table.add_row("pictures", f"{learned.pictures:,} of {escape(learned.pool)}, {learned.held_out:,} held out")
    table.add_row("positions", f"{learned.positions:,}" + (f", {learned.epochs} epochs" if learned.epochs else ""))
    table.add_row("seed", str(card.seed))
    quality = card.quality
    if quality is not None:
        table.add_row("R2, held out", f"{quality.r2:.3f}")
        if quality.prefix_r2:
            parts = ", ".join(f"{r2:.3f} ({prefix:,})" for prefix, r2 in quality.prefix_r2.items())
            table.add_row("R2 of the first latents", parts)
        table.add_row("active latents", f"{quality.l0:.1f} at a position")
        table.add_row("dead, dense", f"{quality.dead:.1%}, {quality.dense:.1%}")
        swapped = quality.replacement
        if swapped is not None:
            what = "right answers" if swapped.answers == "labels" else "same answer"
            table.add_row(f"{what}, reconstructed", f"{swapped.top1_replaced:.3f} (as it is: {swapped.top1:.3f})")
            table.add_row(f"{what}, mean in its place", f"{swapped.top1_mean:.3f}")
            if swapped.recovered is not None:
                table.add_row("cross-entropy recovered", f"{swapped.recovered:.1%}")
    print_table(console, table)
    print_whole(str(path))


def spell_count(count: int) -> str:
    """Write a large number shortly."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def spell_bytes(count: int) -> str:
    """Write a number of bytes as people do."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def print_opening(
    study: Study, address: str, port: int, *, pilot: bool, preview: bool, bots: bool, leaderboard: bool = False
) -> None:
    """Print where a hosted study can be reached, and what keeps strangers out of it."""
    import os

    console = open_console()
    recruitment = study.experiment.recruitment
    name = "localhost" if address in ("0.0.0.0", "::", "127.0.0.1") else address
    kind = "Preview of" if preview else "Pilot of" if pilot else "Hosting"
    print_whole(f"{kind} {study.root}: http://{name}:{port}/")
    if PLUMBING in study.manifest["notes"]:
        console.print(f"[bold red]{PLUMBING.capitalize()}[/]: answers to this study say nothing about its models.")
    if recruitment.unfilled and not (preview or bots):
        console.print(
            f"[bold]Nobody can take part yet:[/] \\[recruitment] {', '.join(recruitment.unfilled)} must be filled in "
            f"{escape(str(study.root / 'experiment.toml'))}. Until then: --preview, or --pilot with open links."
            if not (pilot and recruitment.recruiter == "open")
            else "A pilot with open links: the fields of \\[recruitment] may still be empty.",
            soft_wrap=True,
        )
    if bots:
        console.print("Simulated people may take part over HTTP: never put this server before real ones.")
    if not os.environ.get("VIMI_ADMIN_HASH"):
        console.print("There is no page for the experimenter: VIMI_ADMIN_HASH is not set (vimi password makes one).")
    else:
        print_whole(f"Experimenter: http://{name}:{port}/admin")
    if leaderboard:
        print_whole(f"Leaderboard, for anybody who has the address: http://{name}:{port}/leaderboard")
    console.print("Stop with Ctrl-C; answers are safe.\n")


def print_briefing(briefing: Briefing) -> None:
    """Print what to enter at the recruiter."""
    console = open_console()
    console.print(f"Recruiter: {briefing.recruiter}\n")
    print_whole(f"{briefing.link}\n{briefing.advice}\n")
    table = _table("code", "outcome", "meaning")
    for outcome, code in briefing.codes.items():
        table.add_row(escape(code), outcome, briefing.meanings[outcome])
    print_table(console, table)
    if briefing.unfilled:
        console.print(
            f"\n[bold red]The link does not work yet[/]: fill {', '.join(briefing.unfilled)} in \\[recruitment] of the "
            "study's experiment.toml, and restart the server."
        )


def print_reconciliation(found: Reconciliation) -> None:
    """Print the state of people's submissions at their recruiter."""
    console = open_console()
    console.print(
        f"Sessions ended now: {found.returned} returned, {found.timed_out} timed out. Nothing new of "
        f"{found.unchanged} people; {found.strangers} submissions never came here."
    )
    if found.left_out:
        words = ", ".join(f"{count} {word}" for word, count in found.left_out.most_common())
        console.print(
            f"[bold]Left out[/], since their status is a passing one or unknown here: {escape(words)}. Run this again "
            "later; if a status stays, look these submissions up at the recruiter."
        )
    if found.finished_here_only:
        console.print(
            "[bold]Finished here, but not there[/] (their answers are whole: pay them, by a bonus if need be): "
            + ", ".join(found.finished_here_only)
        )
    if found.finished_there_only:
        console.print(
            "[bold]Handed in there without having finished here[/] (ask them to return): "
            + ", ".join(found.finished_there_only)
        )


def print_payroll(payroll: Payroll) -> None:
    """Print how many people are paid what."""
    console = open_console()
    console.print(
        f"{payroll.count('full')} people finished and are paid in full, {payroll.count('partial')} are paid in part, "
        f"{payroll.count('none')} are not paid: USD {payroll.total:,} in all."
    )
    if payroll.note:
        console.print(f"[bold]{escape(payroll.note)}[/]")


def print_import(described: Description, answers: int, sessions: int, folder: Path) -> None:
    """Print what an import has read: how many answers of which kind, and what is not known."""
    console = open_console()
    print_table(console, _frame(described.counts))
    if described.missing:
        console.print(f"\nNot recorded: {', '.join(described.missing)}.")
    for note in described.notes:
        console.print(f"Note: {escape(note)}.")
    print_whole(f"\n{answers:,} answers of {sessions:,} sessions in {folder}")
    print_next(spell_command("analyze", folder))


def print_report(report: Report, written: Written) -> None:
    """Print what answers say, and where the report is."""
    console = open_console()
    for note in report.notes:
        console.print(f"[bold red]{escape(note)}[/]")
    for finding in report.headline:
        kind = f"[bold]{escape(finding.kind)}[/]  " if finding.kind else ""
        console.print(f"\n{kind}{escape(finding.sentence)}")
        if finding.because:
            console.print(f"[dim]{escape(finding.because)}[/]")
    console.print(
        f"\n{len(report.sections)} sections, {written.figures} figures, {written.tables} tables, "
        f"{written.estimates:,} estimates."
    )
    print_whole(f"Report  {written.page}\nFiles   {written.folder}")


def print_assessment(assessment: Assessment) -> None:
    """Print what a design can see."""
    console = open_console()
    print_table(console, _frame(assessment.facts))
    console.print()
    for sentence in assessment.sentences:
        console.print(escape(sentence))


def print_optimum(optimum: Optimum) -> None:
    """Print how a budget is best spent."""
    console = open_console()
    print_table(console, _frame(optimum.ladder))
    console.print()
    for sentence in optimum.sentences:
        console.print(escape(sentence))


def print_outlook(forecast: SessionForecast) -> None:
    """Print how many more sessions are needed."""
    console = open_console()
    for sentence in forecast.sentences:
        console.print(escape(sentence))


def _frame(frame: pd.DataFrame) -> Table:
    """Return a data frame as a table for the terminal."""
    from pandas.api.types import is_numeric_dtype

    numbers = [str(name) for name in frame.columns if is_numeric_dtype(frame[name])]
    table = _table(*(str(name).replace("_", " ") for name in frame.columns),
                   right=[name.replace("_", " ") for name in numbers])  # fmt: skip
    for _, row in frame.iterrows():
        table.add_row(*(escape(_spell(cell)) for cell in row))
    return table


def _spell(cell: object) -> str:
    """Write a cell: numbers as people do, nothing for what is missing."""
    import math
    from numbers import Integral, Real

    if cell is None or (isinstance(cell, Real) and math.isnan(cell)):
        return "–"
    if isinstance(cell, bool) or not isinstance(cell, Real):
        return str(cell)
    if isinstance(cell, Integral):
        return f"{int(cell):,}"
    value = float(cell)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

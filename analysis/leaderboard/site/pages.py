"""The pages: wording and order of everything that is shown."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.leaderboard.result import ModelFacts, PoolFacts, Result, UnitFacts
from analysis.leaderboard.scores import CONTROLS
from analysis.leaderboard.sections import LeaderboardSection, spell_observer
from analysis.leaderboard.site.addresses import anchor, model_address, unit_address
from analysis.leaderboard.site.exhibits import Appearance, Exhibit, Judgement, ModelExhibit
from analysis.leaderboard.site.folder import SiteFolder
from analysis.leaderboard.site.plots import Plot, Scaling, draw_distribution, methods_of, scale_of
from analysis.leaderboard.site.tiles import Strip
from analysis.leaderboard.standings import Leaderboard, Row, Standing, StandingsTable
from analysis.leaderboard.validity import WORST_FIRST, ValidityCheck
from analysis.report.page import draw_interval
from benchmark.estimate import Estimate
from benchmark.hashing import hash_settings
from benchmark.observers.base import LOW_LEVEL
from benchmark.plumbing import PLUMBING
from benchmark.units import Unit

Strips = Mapping[str, Mapping[str, Mapping[int, Strip]]]
"""Pictures of units: by exhibit, condition and number of the unit."""

INTRO = (
    "A person or a machine observer sees the pictures that a unit responds to most and those that it responds to "
    "least. They then choose which of two new pictures belongs to the first group. People who choose correctly have "
    "understood the unit. Each table holds one protocol, one pool and one kind of references. Models are ranked by "
    "people's proportion correct, or by a machine's excess over an observer that knows only colour and spectrum. Do "
    "not compare numbers of different tables or observers."
)

SYMBOLS = {"holds": "✓", "warns": "!", "fails": "✕", "unknown": "?"}
MEANINGS = (
    ("holds", "checked, no problem found"),
    ("warns", "the score may mean less than it seems"),
    ("fails", "the score measures nothing"),
    ("unknown", "not looked at"),
)

SEEN = {"seen": "seen in training", "unseen": "not seen in training", "unknown": "perhaps seen in training"}

FLAGS = {
    "constant": "It is constant: it gives nearly all pictures the same activation.",
    "dead": "It is dead: its activations hardly vary, compared with the other units of its layer.",
    "silent": "It is silent: nearly all pictures get the same activation, and only a few another.",
}
"""What flags of units mean; see ``stimuli/unit_statistics.py``."""

REFERENCES = {"both": "both sides", "max": "maximal side only", "min": "minimal side only", "none": "none"}

MOST_HINTED = 120
"""Lines of all tables up to which what warns or fails says what was found when it is pointed at; where there are more,
the page would grow too heavy, and it only leads there.
"""

SHOWN_OF_A_SIDE = 6
"""References of each side that a list of units shows."""


class Pages:
    """Writes the pages of a site.

    Parameters
    ----------
    site
        Where they are written.
    leaderboard
        What they show.
    """

    def __init__(self, site: SiteFolder, leaderboard: Leaderboard) -> None:
        self.site = site
        self.leaderboard = leaderboard
        self.environment = Environment(
            loader=PackageLoader("analysis", "leaderboard/site"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self.environment.globals.update(plumbing=PLUMBING, symbols=SYMBOLS)

    def _source(self, name: str) -> str:
        assert self.environment.loader is not None
        return self.environment.loader.get_source(self.environment, name)[0]

    def write_style(self) -> None:
        """Write the style sheet that all pages share."""
        self.site.write("style.css", self._source("style.css"))

    def _write(self, address: str, template: str, title: str, script: str = "", **about: Any) -> None:
        """Write a page; the only program that runs on it is its own, which it names by its hash."""
        text = self._source(script) if script else ""
        digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        page = self.environment.get_template(template).render(
            root="../" * address.count("/"), title=title, script=Markup(text),
            script_source=f"'sha256-{digest}'" if text else "'none'", **about,
        )  # fmt: skip
        self.site.write(address, page)

    # ---------------------------------------------------------------- the tables

    def write_index(self, groups: Sequence[tuple[Sequence[StandingsTable], Sequence[Scaling]]]) -> None:
        """Write the page of all tables, and of what scores have to do with what models are.

        Parameters
        ----------
        groups
            Tables of one protocol, pool and difficulty, with the scaling of their scores.
        """
        lines = sum(len(row.standings) for table in self.leaderboard for row in table.rows)
        shown = [_group(tables, scalings, lines <= MOST_HINTED) for tables, scalings in groups]
        rows = [row for table in self.leaderboard for row in table.rows]
        observers = {section.who for table in self.leaderboard for section in table.sections}
        filters = [
            ("protocol", "Protocol", sorted({table.protocol.identity for table in self.leaderboard})),
            ("condition", "References", sorted({table.condition for table in self.leaderboard})),
            ("observer", "Answered by", sorted(observers)),
            ("family", "Family", sorted({row.model.family for row in rows})),
        ]
        results = {result.hash: result for row in rows for result in row.results}
        files = [
            {
                **_file(result), "model": result.model.name, "page": model_address(result.model.name),
                "protocol": result.protocol.identity, "pool": result.pool.name,
                "weights": result.model.weights[:12] or "not known", "plumbing": PLUMBING in result.notes,
            }
            for result in sorted(results.values(), key=lambda result: result.place.as_posix())
        ]  # fmt: skip
        self._write(
            "index.html", "index.html", "vimi leaderboard", "index.js", intro=INTRO, filters=filters,
            meanings=MEANINGS, measured=[own for own in shown if not own["plumbing"]],
            checks=[own for own in shown if own["plumbing"]], files=len(files),
        )  # fmt: skip
        self._write("files.html", "files.html", "Result files · vimi leaderboard", files=files)

    # ---------------------------------------------------------------- a model

    def write_model(
        self,
        model: ModelExhibit,
        units: Mapping[Unit, Sequence[Appearance]],
        strips: Strips,
        sizes: Sequence[Plot | None],
    ) -> None:
        """Write a model's page.

        Parameters
        ----------
        model
            The model.
        units
            Its units.
        strips
            Their pictures.
        sizes
            For each of its rows, the figure of scores against pool size.
        """
        facts = model.rows[0][1].model
        rows = [
            {
                "table": _heading(table),
                "lines": list(_lines(table, row)),
                "place": _row_place(table, row),
                "notes": row.notes,
                "checks": _checks_in_full(table, row),
                "distributions": list(_distributions(model, table, row)),
                "sizes": plot,
            }
            for (table, row), plot in zip(model.rows, sizes)
        ]
        standings = [own for _, row in model.rows for own in row.standings]
        self._write(
            model_address(model.name), "model.html", f"{model.name} · vimi leaderboard", "model.js",
            model=model, subtitle=" · ".join(filter(None, (facts.title, f"family {facts.family}"))),
            facts=list(_model_facts(facts, [row.pool for _, row in model.rows])),
            rows=rows, standings=_columns(standings), lists=list(_unit_lists(model, units, strips)),
            files=[_provenance(result) for result in model.results],
        )  # fmt: skip

    # ---------------------------------------------------------------- a unit

    def write_unit(
        self, unit: Unit, model: ModelExhibit, units: Mapping[Unit, Sequence[Appearance]], strips: Strips
    ) -> None:
        """Write a unit's page.

        Parameters
        ----------
        unit
            The unit.
        model
            Its model.
        units
            All units of the model, in their order.
        strips
            Their pictures.
        """
        order = list(units)
        place = order.index(unit)
        appearances = units[unit]
        facts = appearances[0].facts
        notes = dict.fromkeys(note for own in appearances for note in own.exhibit.notes)
        self._write(
            unit_address(unit), "unit.html", f"{unit} · vimi leaderboard", unit=unit, name=_unit_name(unit),
            subtitle=f"{unit.model} · {_spell_place(facts)}", notes=list(notes), model_page=model_address(unit.model),
            before=_neighbour(order[place - 1]) if place else None,
            after=_neighbour(order[place + 1]) if place + 1 < len(order) else None,
            layer=[_neighbour(other) for other in order if _same_layer(other, unit) and other != unit],
            sections=[_unit_section(own, strips[own.exhibit.place]) for own in appearances],
        )  # fmt: skip


# -------------------------------------------------------------------- words


def _spell_place(facts: UnitFacts) -> str:
    depth = "" if facts.depth is None else f"at depth {facts.depth:.2f}"
    width = "" if facts.width is None else f"one of {facts.width:,} units"
    return ", ".join(filter(None, (facts.kind, depth, width)))


def _unit_name(unit: Unit) -> str:
    return str(unit).removeprefix(f"{unit.model}/")


def _neighbour(unit: Unit) -> dict[str, Any]:
    aggregator = "" if unit.aggregator == "mean" else f":{unit.aggregator}"
    return {"address": unit_address(unit), "name": _unit_name(unit), "index": f"{unit.index}{aggregator}"}


def _same_layer(one: Unit, other: Unit) -> bool:
    return (one.layer, one.basis) == (other.layer, other.basis)


def _file(result: Result) -> dict[str, Any]:
    return {"address": f"results/{quote(result.place.as_posix())}", "name": result.place.name}


# -------------------------------------------------------------------- tables


def _place(table: StandingsTable) -> str:
    return f"{table.protocol.identity} on {table.pool.name}"


def _table_anchor(table: StandingsTable) -> str:
    """Return a place made of all that tells tables apart, so that a link to it outlives every rebuilding."""
    return anchor(
        table.condition, table.difficulty, table.method, table.protocol.identity, table.pool.name,
        of=[table.pool.identity],
    )  # fmt: skip


def _row_place(table: StandingsTable, row: Row) -> str:
    return anchor(table.condition, table.difficulty, of=[_table_anchor(table), row.name])


def _heading(table: StandingsTable) -> dict[str, Any]:
    method = f" ({table.method})" if table.method else ""
    return {
        "anchor": _table_anchor(table), "title": table.title, "identity": table.protocol.identity,
        "condition": table.condition, "difficulty": table.difficulty.replace("_", " "), "method": table.method,
        "plumbing": table.is_plumbing_check, "place": _place(table),
        "short": f"{table.condition} references{method}, {table.difficulty.replace('_', ' ')} queries",
    }  # fmt: skip


def _group(tables: Sequence[StandingsTable], scalings: Sequence[Scaling], hints: bool) -> dict[str, Any]:
    first = tables[0]
    sources = dict.fromkeys(r.source for table in tables for row in table.rows for r in row.results if r.source)
    lead = f"Protocol {first.protocol.identity}; pool “{first.pool.name}”, {first.pool.size:,} pictures."
    if sources:
        lead += f" Imported, not measured with vimi: {'; '.join(sources)}."
    return {
        "anchor": anchor(
            "tables", first.protocol.identity, first.pool.name, first.difficulty, of=[first.pool.identity]
        ),
        "title": _place(first) + ("" if first.difficulty == "easy" else f", {first.difficulty.replace('_', ' ')}"),
        "plumbing": first.is_plumbing_check,
        "notes": list(dict.fromkeys(note for table in tables for note in table.notes)),
        "lead": lead,
        "tables": [_whole_table(table, hints) for table in tables],
        "scalings": scalings,
    }


def _whole_table(table: StandingsTable, hints: bool) -> dict[str, Any]:
    return {**_heading(table), "sections": [_section(table, section, hints) for section in table.sections]}


_IN_WORDS = {
    "family": "{}",
    "parameters": "{} parameters",
    "training images": "{} training images",
    "accuracy": "top-1 {}",
}
"""Columns that say what a model is stand below its name."""


def _section(table: StandingsTable, section: LeaderboardSection, hints: bool) -> dict[str, Any]:
    """Return the rows of a table by one observer: the cells of the terminal, and what only a page has room for."""
    shown = [column for column in section.columns if column.name not in _IN_WORDS]
    # The headline is the first number: all views write the same columns in the same order.
    headline = next(column.name for column in shown if column.is_number)
    scale = scale_of(own.headline for own in section.standings)
    rows = [
        {
            "page": model_address(row.model.name),
            "family": row.model.family,
            "cells": [{"name": c.name, "text": c.cells[number], "is_number": c.is_number} for c in shown],
            "drawing": draw_interval(own.headline, scale) if scale else Markup(""),
            "facts": [
                *(_IN_WORDS[c.name].format(c.cells[number]) for c in section.columns if c.name in _IN_WORDS),
                f"pool {SEEN.get(row.pool.seen_in_training, row.pool.seen_in_training)}",
            ],
            "checks": [check for check in panel if check["verdict"] in ALARMING],
            "rest": _rest([check for check in panel if check["verdict"] not in ALARMING]),
        }
        for number, (row, own) in enumerate(zip(section.rows, section.standings))
        for panel in [list(_panel(table, row, section, hints))]
    ]
    controls = [row.model.kind == "untrained" for row in section.rows]
    estimates = [value for own in section.standings for value in _shown_estimates(own)]
    return {
        "who": section.who, "what": _capital(section.what), "headline": headline, "reasons": section.reasons,
        "heads": [(column.name, column.is_number) for column in shown], "methods": methods_of(estimates),
        "rows": [row for row, control in zip(rows, controls) if not control],
        "controls": [row for row, control in zip(rows, controls) if control],
    }  # fmt: skip


def _shown_estimates(standing: Standing) -> list[Estimate]:
    """Return the numbers of a standing that stand in tables, each once."""
    beside = [_named(standing, name) for name in _BESIDE]
    score = standing.score if standing.quantity != "score" else None
    return [own for own in (standing.headline, score, *beside, standing.rank) if own is not None]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _columns(standings: Sequence[Standing]) -> dict[str, Any]:
    """Say which columns some standings fill."""
    machines = any(own.quantity == "excess" for own in standings)
    mixed = len({own.quantity for own in standings}) > 1
    beside = [words for name, words in _BESIDE.items() if any(_named(own, name) is not None for own in standings)]
    headline = {
        (True, True): "Headline: people's score, machines' excess over low-level",
        (True, False): "Excess over low-level",
        (False, False): "Proportion correct",
    }[machines, mixed]
    ranked = any(own.rank is not None for own in standings)
    return {
        "headline": headline, "mixed": mixed, "scores": machines, "beside": ", ".join(beside).capitalize(),
        "both": len(beside) > 1, "ranked": ranked, "width": 6 + machines + bool(beside) + ranked,
        "methods": methods_of(value for own in standings for value in _shown_estimates(own)),
    }  # fmt: skip


_BESIDE = {"trained_minus_twin": "trained minus twin", "noise_ceiling": "noise ceiling"}
"""Quantities that stand beside a headline: the first beside a machine's, the second beside people's."""


def _named(standing: Standing, name: str) -> Estimate | None:
    return (standing.quantities or {}).get(name)


def _lines(table: StandingsTable, row: Row) -> Iterator[dict[str, Any]]:
    """Yield how a row stands by each observer."""
    for section in replace(table, rows=(row,)).sections:
        own = section.standings[0]
        yield {
            "observer": section.who,
            "quantity": own.quantity,
            "headline": str(own.headline),
            "score": str(own.score),
            "beside": [(words, str(value)) for name, words in _BESIDE.items() if (value := _named(own, name))],
            "rank": own.spelled_rank if own.rank is not None else "",
            "groups": own.groups,
            "missing": own.missing,
            "units": own.units,
            "answers": own.answers,
        }


# -------------------------------------------------------------------- validity


def _check_place(table: StandingsTable, row: Row, name: str) -> str:
    return anchor(name, of=[_row_place(table, row)])


def _panel(table: StandingsTable, row: Row, section: LeaderboardSection, hints: bool) -> Iterator[dict[str, str]]:
    """Yield a mark for each thing that was looked at: the worst verdict, and all sentences.

    Of checks that speak of one machine observer, a machine's rows have its own, and people's rows have all.
    """
    named: dict[str, list[ValidityCheck]] = {}
    for check in row.checks:
        if section.kind == "machine" and check.observer not in ("", section.observer, *CONTROLS):
            continue
        named.setdefault(check.name, []).append(check)
    for name, checks in named.items():
        verdict = min((check.verdict for check in checks), key=WORST_FIRST.index)
        yield {
            "name": name, "verdict": verdict, "hint": " ".join(check.sentence for check in checks) if hints else "",
            "place": _check_place(table, row, name),
        }  # fmt: skip


ALARMING = ("fails", "warns")
"""Verdicts that the first page names; it counts the others."""


def _rest(checks: Sequence[Mapping[str, str]]) -> dict[str, str] | None:
    """Say how many checks have each of the other verdicts, and where to read of them."""
    counts = Counter(check["verdict"] for check in checks)
    words = {"unknown": "{} unknown", "holds": "{} hold"}
    said = ", ".join(words[verdict].format(counts[verdict]) for verdict in words if counts[verdict])
    return {"words": said, "place": checks[0]["place"]} if said else None


def _checks_in_full(table: StandingsTable, row: Row) -> list[dict[str, str]]:
    """Return every line of the panel; the first of each name is where its mark leads."""
    seen: set[str] = set()
    found = []
    for check in row.checks:
        place = "" if check.name in seen else _check_place(table, row, check.name)
        seen.add(check.name)
        found.append(
            {"name": check.name, "verdict": check.verdict, "sentence": check.sentence, "place": place}
        )  # fmt: skip
    return found


# -------------------------------------------------------------------- models


def _model_facts(model: ModelFacts, pools: Sequence[PoolFacts]) -> Iterator[tuple[str, str]]:
    def number(value: int | None) -> str:
        return "not known" if value is None else f"{value:,}"

    kinds = {
        "trained": "trained weights",
        "untrained": "random weights: a control, not a model",
        "published": "published means only",
    }
    training = model.training
    yield "kind", kinds[model.kind]
    yield "architecture", model.architecture or "its author's own"
    yield "parameters", number(model.parameters)
    if model.layers is not None:
        yield "eligible layers", number(model.layers)
        yield "units", f"{number(model.units)}, of which {number(model.canonical_units)} rank pictures differently"
    if training is None:
        yield "training data", "not known"
    else:
        yield "training data", " + ".join(training.data) + (f" ({training.note})" if training.note else "")
        yield "training images", f"{training.images:,}"
    accuracy = model.accuracy
    yield "accuracy", f"top-1 {accuracy.top1:g} % ({accuracy.measured})" if accuracy else "not known"
    if "size" in model.input:
        yield "input", f"{model.input['size']} pixels"
    yield "weights", model.weights[:12] or "not known"
    if model.twin_weights:
        yield "random twin's weights", model.twin_weights[:12]
    for pool in {pool.name: pool for pool in pools}.values():
        yield f"pool {pool.name}", SEEN.get(pool.seen_in_training, pool.seen_in_training)
    yield "licence", model.licence
    if model.source:
        yield "source", model.source


def _distributions(model: ModelExhibit, table: StandingsTable, row: Row) -> Iterator[dict[str, Any]]:
    """Yield how unit scores are spread in a row, observer by observer; flagged units are not included."""
    hashes = {result.hash for result in row.results}
    exhibit = next((own for own in model.exhibits if hashes & {result.hash for result in own.results}), None)
    if exhibit is None:
        return
    found: dict[tuple[str, str, bool], tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}
    for unit, judgements in zip(exhibit.first.units, exhibit.judgements()):
        for own in judgements:
            if not _is_headline(own, exhibit) or (own.condition, own.difficulty) != (table.condition, table.difficulty):
                continue
            model_side, twin_side = found.setdefault((own.kind, own.observer, own.is_control), ([], []))
            if own.model and not unit.flag:
                model_side.append((own.model.right, own.model.answered))
            if own.twin and not unit.twin_flag:
                twin_side.append((own.twin.right, own.twin.answered))
    for (kind, observer, control), (own_side, twin_side) in found.items():
        if own_side:
            name = spell_observer(kind, observer)
            shares = [right / answered for right, answered in own_side]
            mean = sum(shares) / len(shares)
            caption = f"{len(own_side)} units, mean {mean:.3f}".replace("0.", ".", 1)
            yield {
                "observer": name + (", a control" if control else ""), "caption": caption,
                "drawing": draw_distribution(own_side, twin_side or None),
                "words": f"Spread of unit scores by {name}: {caption}, from {min(shares):.2f} to {max(shares):.2f}",
            }  # fmt: skip


def _is_headline(judgement: Judgement, exhibit: Exhibit) -> bool:
    """Whether a judgement is one of those that scores are made of: both sides shown, the whole pool."""
    return judgement.references == "both" and judgement.pool_size == exhibit.first.pool.size


def _unit_lists(
    model: ModelExhibit, units: Mapping[Unit, Sequence[Appearance]], strips: Strips
) -> Iterator[dict[str, Any]]:
    """Yield the lists of a model's units: one for each set of stimuli and condition."""
    for exhibit in model.exhibits:
        shown = [(unit, own) for unit, all in units.items() for own in all if own.exhibit is exhibit]
        for condition in exhibit.conditions:
            pictures = strips[exhibit.place][condition]
            answered = [
                {
                    _column(own): own
                    for own in here.judgements
                    if own.condition == condition and _is_headline(own, exhibit)
                }
                for _, here in shown
            ]
            columns = sorted({key for keys in answered for key in keys})
            members = [
                _listed_unit(unit, here, pictures.get(here.number), [judged.get(key) for key in columns])
                for (unit, here), judged in zip(shown, answered)
                if judged or here.number in pictures
            ]
            difficulties = {key[3] for key in columns}
            yield {
                "anchor": anchor("units", exhibit.place, condition), "condition": condition, "exhibit": exhibit.name,
                "plumbing": exhibit.is_plumbing_check, "notes": exhibit.notes, "section": exhibit.place,
                "pictures": bool(pictures), "units": members,
                "columns": [
                    spell_observer(kind, observer) + f", {difficulty.replace('_', ' ')}" * (len(difficulties) > 1)
                    for _, kind, observer, difficulty in columns
                ],
            }  # fmt: skip


def _column(judgement: Judgement) -> tuple[int, str, str, str]:
    order = 0 if judgement.kind == "human" else 1 if judgement.kind == "simulated" else 3 if judgement.is_control else 2
    return (order, judgement.kind, judgement.observer, judgement.difficulty)


def _listed_unit(
    unit: Unit, here: Appearance, strip: Strip | None, judgements: Iterable[Judgement | None]
) -> dict[str, Any]:
    depth = here.facts.depth
    return {
        "address": unit_address(unit), "name": _unit_name(unit), "kind": here.facts.kind, "flag": here.facts.flag,
        "strip": strip, "shown": min(SHOWN_OF_A_SIDE, strip.references) if strip else 0,
        "depth": "–" if depth is None else f"{depth:.2f}", "depth_value": "" if depth is None else depth,
        "cells": [own.model if own else None for own in judgements],
    }  # fmt: skip


def _provenance(result: Result) -> dict[str, Any]:
    made = result.made
    facts = [
        ("protocol", result.protocol.identity),
        ("pool", f"{result.pool.name}, {result.pool.size:,} pictures, {result.pool.identity[:12]}"),
        ("stimuli", result.stimuli_hash[:12] if result.stimuli else "not known"),
        ("hash of the file's content", result.hash),
        ("made at", made.made_at),
        ("study", made.study[:12]),
        ("seed", str(made.seed) if made.experiment else ""),
        ("device", made.device),
        ("source", result.source),
        ("replaces", ", ".join(hash[:12] for hash in result.replaces)),
    ]
    details = [
        ("Versions", made.versions),
        ("Experiment", made.experiment),
        ("Rules of the protocol", result.protocol.rules),
        ("Stimuli", [own.model_dump(mode="json") for own in result.stimuli]),
    ]
    return {
        **_file(result),
        "notes": result.notes,
        "facts": [(term, what) for term, what in facts if what],
        "details": [(summary, json.dumps(value, indent=1, ensure_ascii=False)) for summary, value in details if value],
    }


# -------------------------------------------------------------------- units


def _unit_section(here: Appearance, strips: Mapping[str, Mapping[int, Strip]]) -> dict[str, Any]:
    exhibit = here.exhibit
    return {
        "anchor": exhibit.place,
        "title": exhibit.name,
        "plumbing": exhibit.is_plumbing_check,
        "notes": exhibit.notes,
        "parts": [
            _unit_condition(here, condition, strips[condition].get(here.number))
            for condition in exhibit.conditions
            if here.number in strips[condition] or any(own.condition == condition for own in here.judgements)
        ],
        "facts": list(_unit_facts(here.facts)),
        "files": [_file(result) for result in exhibit.results],
    }


def _unit_condition(here: Appearance, condition: str, strip: Strip | None) -> dict[str, Any]:
    size = here.exhibit.first.pool.size
    judgements = [own for own in here.judgements if own.condition == condition]
    whole = [own for own in judgements if own.pool_size == size]
    facts = here.facts
    key = [here.exhibit.first.model.name, facts.layer, facts.basis, facts.index, facts.aggregator, condition]
    upper_is_maximal = int(hash_settings(key), 16) % 2 == 0
    queries = []
    if strip is not None:
        sides = [("max", strip.columns - 2), ("min", strip.columns - 1)]
        queries = [
            {"answer": side, "number": number, "place": place}
            for place, (side, number) in zip(("upper", "lower"), sides if upper_is_maximal else sides[::-1])
        ]
    return {
        "condition": condition,
        "strip": strip,
        "queries": queries,
        "answer": "upper" if upper_is_maximal else "lower",
        "judgements": [_judgement(own) for own in whole],
        "smaller": [_judgement(own) for own in judgements if own.pool_size != size],
        "methods": methods_of(tally.estimate for own in whole for tally in (own.model, own.twin) if tally),
    }


def _judgement(own: Judgement) -> dict[str, Any]:
    remarks = []
    if own.kind == "machine":
        if own.related:
            remarks.append("a relative of the model")
        if own.is_control:
            remarks.append("colour and spectrum only: a control" if own.observer == LOW_LEVEL else "a control")
    elif own.model is not None:
        count = own.model.observers
        remarks.append(f"{count} {'person' if count == 1 else 'people'}")
    return {
        "observer": spell_observer(own.kind, own.observer), "remark": ", ".join(remarks), "control": own.is_control,
        "difficulty": own.difficulty.replace("_", " "), "references": REFERENCES.get(own.references, own.references),
        "pool_size": own.pool_size, "model": own.model, "twin": own.twin,
        "drawing": draw_interval(own.model.estimate, (0.0, 1.0)) if own.model else Markup(""),
    }  # fmt: skip


def _unit_facts(facts: UnitFacts) -> Iterator[str]:
    yield f"{_spell_place(facts)}.".capitalize() if _spell_place(facts) else "Its position in the model is unknown."
    if facts.flag:
        words = FLAGS.get(facts.flag, f"It is flagged: {facts.flag}.")
        yield f"{words} It is kept apart and counts in no score."
    if facts.twin_flag:
        yield f"Its counterpart in the random-weight twin is {facts.twin_flag}, and counts in none of its scores."
    if facts.query_gap is not None:
        yield f"The easy queries of its two sides lie {facts.query_gap:.2f} standard deviations apart."
    if facts.range_over_deviation is not None:
        yield f"Its activations range over {facts.range_over_deviation:.1f} standard deviations."
    if facts.positive_share is not None:
        yield f"{facts.positive_share:.1%} of the pool's pictures have an activation above 0."
    if facts.tie_share is not None:
        yield f"{facts.tie_share:.2%} of the pool's pictures share their activation with another."

"""From a study to result files: one for each of its models, with the counts of all observers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.dataset import read_dataset
from analysis.estimands import spell_estimand
from analysis.exclusions import exclude, protocol_rules
from analysis.leaderboard.pictures import paint_sheets
from analysis.leaderboard.result import (
    MachineCounts,
    Making,
    ModelFacts,
    PeopleCounts,
    PoolFacts,
    ProtocolFacts,
    Result,
    Score,
    StimulusFacts,
    UnitFacts,
)
from analysis.leaderboard.scores import score_result
from analysis.machines.performance import UNIT_KEY
from analysis.published import SOURCE, UNITS, published_means, published_models
from benchmark.commands import spell_command
from benchmark.errors import LeaderboardError, NameNotFound
from benchmark.experiment import VisualizationSettings
from benchmark.hashing import hash_rows, hash_settings
from benchmark.model_card import TWIN_SUFFIX, ModelCard
from benchmark.model_sources import load_card
from benchmark.observers.base import SHUFFLED
from benchmark.protocol import load_protocol
from benchmark.study import Study, package_versions

if TYPE_CHECKING:
    from benchmark.progress import Reporter

_SHOWN = [*UNIT_KEY, "condition", "role", "side", "difficulty", "task", "position", "picture"]
"""What a set of stimuli is made of: which picture serves which unit in which role. Activations are left out: they
differ in their last digits between machines that show the same pictures.
"""


def make_results(
    study: Study,
    *,
    models: Sequence[str] = (),
    pool_sizes: pd.DataFrame | None = None,
    people: bool = True,
    pictures: bool = True,
    database: str = "",
    reporter: Reporter | None = None,
) -> list[Result]:
    """Return the result of each model of a study.

    Parameters
    ----------
    study
        The study, with answers by machines or people.
    models
        Which models; all but the twins if not given.
    pool_sizes
        Machines' answers with parts of the pool: a table of responses with a column ``pool_size``.
    people
        Whether people's answers are counted, too.
    pictures
        Whether each unit's first task goes into the file, small. Leave them out where the pool's licence does not let
        them be shown.
    database
        URL of the database of people's answers, if it is not the study's own.
    reporter
        Shows progress.

    Raises
    ------
    LeaderboardError
        If nobody has answered yet.
    NameNotFound
        If the study has no such model.
    """
    known = study.asked_models
    for name in models:
        if name not in known:
            raise NameNotFound("model", name, known)
    responses, excluded = _responses(study, database, people)
    results = []
    for name in models or known:
        own = responses[responses["model"].isin([name, name + TWIN_SUFFIX])]
        if own.empty:
            raise LeaderboardError(
                f"There are no answers about {name} in {study.root} yet. Let machines answer: "
                + spell_command(
                    "observe", study.root, "--observer", "lowlevel", "--observer", "features:efficientnet_lite2"
                )
            )
        parts = None if pool_sizes is None else pool_sizes[pool_sizes["model"].isin([name, name + TWIN_SUFFIX])]
        results.append(_make(study, name, own, parts, excluded, pictures, reporter))
    return results


def _responses(study: Study, database: str, people: bool) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the answers that count, and how many sessions of people were left out, by kind of observer."""
    from benchmark.responses import machine_responses

    if not people:
        return machine_responses(study), {}
    dataset = read_dataset(study, database)
    counted = exclude(dataset.responses, dataset.sessions, protocol_rules(study.protocol))
    responses = counted.responses[counted.responses["stimuli_hash"].isin(study.stimuli_hashes)]
    before = dataset.responses.groupby("observer_kind")["session"].nunique()
    after = responses.groupby("observer_kind")["session"].nunique()
    return responses, (before - after.reindex(before.index).fillna(0)).astype(int).to_dict()


def _make(
    study: Study,
    name: str,
    responses: pd.DataFrame,
    pool_sizes: pd.DataFrame | None,
    excluded: dict[str, int],
    pictures: bool,
    reporter: Reporter | None,
) -> Result:
    manifest = study.manifest
    units = _units(study, name)
    number = {key: place for place, key in enumerate(units[UNIT_KEY].itertuples(index=False, name=None))}
    pool = _pool(study, name)
    main = responses[(responses["kind"] == "main") & ~responses["observer"].str.endswith(SHUFFLED)]
    asked = [main.assign(pool_size=pool.size)]
    if pool_sizes is not None:
        asked.append(pool_sizes[pool_sizes["kind"].eq("main") & (pool_sizes["pool_size"] != pool.size)])
    machines = pd.concat([part[part["observer_kind"] == "machine"] for part in asked if len(part)])
    result = Result(
        model=_model(study, name),
        protocol=ProtocolFacts(
            identity=study.protocol.identity,
            name=study.protocol.name,
            rules=study.protocol.rules.model_dump(mode="json", exclude={"summary"}),
        ),
        pool=pool,
        stimuli=_stimuli(study, name),
        notes=tuple(manifest["notes"]),
        units=tuple(UnitFacts.model_validate(_without_missing(row)) for row in units.to_dict("records")),
        machines=tuple(_machine_counts(machines, name, number)),
        people=tuple(_people_counts(main, name, number, study, excluded)),
        made=Making(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=package_versions(),
            study=study.hash,
            seed=study.experiment.seed,
            experiment=_without_none(study.experiment.contents),
        ),
    )
    result = result.model_copy(update={"scores": score_result(result, reporter=reporter)})
    if pictures:
        result = result.model_copy(update={"pictures": paint_sheets(study, result, reporter)})
    return result.sealed()


def _model(study: Study, name: str) -> ModelFacts:
    facts = study.manifest["models"][name]
    card = ModelCard.model_validate(facts["card"])
    twin = study.manifest["models"].get(name + TWIN_SUFFIX, {})
    return ModelFacts.model_validate(
        {
            "name": name,
            "title": card.title,
            "family": card.family,
            "architecture": card.timm,
            "kind": "untrained" if name.endswith("@random") or card.twin else "trained",
            "weights": facts["weights_hash"],
            "twin_weights": twin.get("weights_hash", ""),
            "parameters": facts["parameters"],
            "layers": facts["layers"],
            "units": facts["units"],
            "canonical_units": facts["canonical_units"],
            "input": card.input.model_dump(mode="json"),
            "training": card.training.model_dump(mode="json") if card.training else None,
            "accuracy": card.accuracy.model_dump(mode="json") if card.accuracy else None,
            "licence": card.licence,
            "source": card.source,
        }
    )


def _pool(study: Study, name: str) -> PoolFacts:
    facts = study.manifest["pool"]
    pool = study.pool()
    return PoolFacts(
        name=facts["name"],
        source=facts["source"],
        identity=hash_settings(sorted(pool["picture"])),
        size=len(pool),
        seen_in_training=study.manifest["models"][name]["pool_seen_in_training"],
        labelled=bool(pool["label"].notna().any()),
        facts={key: value for key, value in facts.items() if isinstance(value, str | int | float | bool)},
    )


def describe_method(settings: VisualizationSettings, crop: int) -> dict[str, Any]:
    """Return how synthetic references are made: what two rows must share to be in one table."""
    said = settings.identity(crop)
    return {
        "preset": settings.preset,
        "canvas": settings.canvas,
        "steps": settings.most_steps,
        **{key: said[key] for key in ("version", "shown") if key in said},
    }


def _stimuli(study: Study, name: str) -> tuple[StimulusFacts, ...]:
    """Describe what was shown in each condition; queries are natural in all of them."""
    stimuli = study.stimuli()
    own = stimuli[stimuli["model"] == name]
    settings = study.experiment.visualization
    found = []
    for condition in sorted(own.loc[own["role"] == "reference", "condition"].unique()):
        references = own[(own["role"] == "reference") & (own["condition"] == condition)]
        served = pd.MultiIndex.from_frame(references[UNIT_KEY])
        queries = own[(own["role"] == "query") & pd.MultiIndex.from_frame(own[UNIT_KEY]).isin(served)]
        shown = pd.concat([references, queries])[_SHOWN].sort_values(_SHOWN, kind="stable")
        made = condition != "natural"
        method = describe_method(settings, study.experiment.pool.crop)
        found.append(
            StimulusFacts(
                condition=condition,
                hash=hash_rows(shown.reset_index(drop=True)),
                method=method if made else {},
                repeated_groups=round(float(references["group_repeated"].mean()), 6),
                accepted=round(float(references["accepted"].astype(float).mean()), 6) if made else None,
            )
        )
    return tuple(found)


def _units(study: Study, name: str) -> pd.DataFrame:
    """Return the used units of a model, in the order in which they were drawn, with what is known of them."""
    drawn = study.units()
    statistics = study.statistics()
    own = drawn[drawn["model"] == name].sort_values("draw")
    described = statistics[(statistics["model"] == name) & statistics["used"]]
    twin = statistics[statistics["model"] == name + TWIN_SUFFIX][[*UNIT_KEY, "flag"]].rename(
        columns={"flag": "twin_flag"}
    )
    facts = ["flag", "tie_share", "positive_share", "range_over_deviation", "query_gap"]
    table = own[[*UNIT_KEY, "kind", "depth", "width"]].merge(described[[*UNIT_KEY, *facts]], on=UNIT_KEY)
    table = table.merge(twin, on=UNIT_KEY, how="left")
    table["twin_flag"] = table["twin_flag"].fillna("")
    return table.reset_index(drop=True)


def _machine_counts(responses: pd.DataFrame, name: str, number: dict[Any, int]) -> list[MachineCounts]:
    """Count machines' answers per unit."""
    found = []
    keys = ["model", "condition", "difficulty", "references", "observer", "protocol", "pool_size"]
    for key, part in responses.groupby(keys, sort=True):
        model, condition, difficulty, references, observer, protocol, size = key
        right, answered, probability = [0] * len(number), [0] * len(number), [0.0] * len(number)
        given = bool(part["probability"].notna().all())
        for unit, own in part.groupby(UNIT_KEY, sort=False):
            if unit in number:
                right[number[unit]] = int(own["correct"].sum())
                answered[number[unit]] = len(own)
                probability[number[unit]] = float(own["probability"].sum()) if given else 0.0
        found.append(
            MachineCounts(
                subject="model" if model == name else "twin",
                condition=condition,
                difficulty=difficulty,
                references=references,
                observer=observer,
                related=bool(part["related"].any()),
                protocol=protocol,
                pool_size=int(size),
                right=tuple(right),
                answered=tuple(answered),
                probability=tuple(round(value, 9) for value in probability) if given else (),
            )
        )
    return found


def _people_counts(
    responses: pd.DataFrame, name: str, number: dict[Any, int], study: Study, excluded: dict[str, int]
) -> list[PeopleCounts]:
    """Count people's answers per person and unit; a result file must not identify them."""
    own = responses[(responses["model"] == name) & (responses["observer_kind"] != "machine")]
    found = []
    for key, part in own.groupby(["observer_kind", "condition", "difficulty", "references"], sort=True):
        kind, condition, difficulty, references = key
        counts = part.groupby(["observer", *UNIT_KEY], sort=True)["correct"].agg(["sum", "count"]).reset_index()
        codes = {person: hash_settings([study.hash, person])[:10] for person in counts["observer"].unique()}
        people = sorted(codes.values())
        place = {person: people.index(code) for person, code in codes.items()}
        units = [number[unit] for unit in counts[UNIT_KEY].itertuples(index=False, name=None)]
        rows = sorted(zip((place[p] for p in counts["observer"]), units, counts["sum"], counts["count"]))
        person, unit, right, answered = zip(*rows)
        found.append(
            PeopleCounts(
                study=study.hash,
                kind=kind,
                condition=condition,
                difficulty=difficulty,
                references=references,
                people=tuple(people),
                person=person,
                unit=unit,
                right=tuple(map(int, right)),
                answered=tuple(map(int, answered)),
                excluded=excluded.get(kind, 0),
            )
        )
    return found


def _without_missing(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if pd.isna(value) else value for key, value in row.items()}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def make_published_results() -> list[Result]:
    """Return the published means of 2023 as results: one a model, without counts, under their own protocol."""
    means = published_means().merge(published_models(), on="model")
    protocol = load_protocol("imi2023")
    size = protocol.rules.pool.size
    results = []
    for model, part in means.groupby("model", sort=False):
        card = load_card(str(model))
        scores = tuple(
            Score(
                quantity="score", condition=row["condition"], difficulty="easy", references="both",
                observer_kind="published", observer="people of 2023", pool_size=size, value=row["value"],
                low=row["low"], high=row["high"], method="BCa bootstrap over units, as published", n=UNITS,
                unit="proportion correct", estimand=spell_estimand("new units"), answers=row["answers"],
            )
            for _, row in part.iterrows()
        )  # fmt: skip
        facts = part.iloc[0]
        results.append(
            Result(
                model=ModelFacts.model_validate(
                    {
                        "name": model, "title": card.title, "family": card.family, "architecture": card.timm,
                        "kind": "published", "parameters": int(facts["parameters"]), "licence": card.licence,
                        "input": card.input.model_dump(mode="json"), "source": card.source,
                        "training": card.training.model_dump(mode="json") if card.training else None,
                        "accuracy": {"top1": round(100 * float(facts["top1"]), 3), "measured": "the paper's notebook"},
                    }
                ),
                protocol=ProtocolFacts(
                    identity=protocol.identity, name=protocol.name,
                    rules=protocol.rules.model_dump(mode="json", exclude={"summary"}),
                ),
                pool=PoolFacts(
                    name="imagenet-1k, training", source="published", identity="imagenet-1k-training-2023", size=size,
                    seen_in_training="seen" if card.training and "imagenet-1k" in card.training.data else "unseen",
                    labelled=True,
                ),
                source=SOURCE,
                scores=scores,
                made=Making(made_at="2023-07-11T00:00:00+00:00", seed=0),
            ).sealed()
        )  # fmt: skip
    return results

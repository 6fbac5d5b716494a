"""What the answers mean: estimates with intervals, and the figures that show them. Needs no torch.

Everything that a notebook or a script needs has its name here, by the question that it answers;
``docs/public_names.md`` says what each is. What has no name here may change without notice.

Names are found when they are first asked for, so that importing the package loads nothing else:

>>> from analysis import estimate_proportions, judgements, read_dataset
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.agreement import (
        Calibration,
        Coverage,
        ErrorConsistency,
        ForecastScore,
        ModelAgreement,
        PoweredScore,
        TemperatureFit,
        UnitAgreement,
        calibrate,
        change_temperature,
        error_consistency,
        fit_temperature,
        machine_answers,
        model_agreement,
        saving_bound,
        score_forecasts,
        score_with_machine,
        simulate_coverage,
        unit_agreement,
    )
    from analysis.comparison import (
        Comparison,
        Difference,
        UnitLevelTest,
        compare_conditions,
        compare_groups,
        compare_models,
        compare_unit_means,
    )
    from analysis.confidence_sequences import estimate_at_any_time, follow_mean
    from analysis.dataset import (
        Dataset,
        Description,
        derive_sessions,
        describe,
        model_facts,
        read_dataset,
        unit_facts,
        with_models,
    )
    from analysis.estimands import spell_estimand
    from analysis.exclusions import (
        DEFAULT_RULES,
        Exclusion,
        Rule,
        all_of,
        any_of,
        catch_rule,
        describe_exclusions,
        exclude,
        instruction_time_rule,
        judge_sessions,
        make_rule,
        named_rule,
        not_,
        position_rule,
        practice_rule,
        protocol_rules,
        total_time_rule,
        usable_responses,
    )
    from analysis.figures import (
        figure_as_svg,
        figure_of,
        plot_calibration,
        plot_confidence,
        plot_design_frontier,
        plot_difficulty,
        plot_guessing,
        plot_human_machine,
        plot_intervals_compared,
        plot_layers,
        plot_leverage,
        plot_machine_scores,
        plot_margins,
        plot_model_comparison,
        plot_natural_against_synthetic,
        plot_pool_sizes,
        plot_power,
        plot_prior_sweep,
        plot_ranks,
        plot_reliability_curve,
        plot_scaling,
        plot_specification_curve,
        plot_unit_distribution,
        plot_variance_components,
        save_figure,
    )
    from analysis.importing.imi import import_imi
    from analysis.importing.mapping import read_mapping
    from analysis.importing.tables import import_csv
    from analysis.judgements import judgements, split_conditions
    from analysis.leaderboard.making import make_published_results, make_results
    from analysis.leaderboard.result import Result, read_result, read_results, write_result
    from analysis.leaderboard.site import build_site
    from analysis.leaderboard.standings import Leaderboard, build_leaderboard
    from analysis.leaderboard.verification import verify_result, verify_results
    from analysis.mixed_model import (
        Bootstrap,
        GuessRates,
        LapseSweep,
        MixedModel,
        MixedModelFit,
        Sensitivity,
        estimate_guess_rates,
        estimate_lapse,
        guessing_sensitivity,
        lapse_sweep,
        learning_sensitivity,
    )
    from analysis.mixed_model.slopes import slopes_from
    from analysis.multiverse import (
        Agreement,
        Choice,
        Multiverse,
        Specification,
        proportion_headline,
        rule_choices,
        run_multiverse,
    )
    from analysis.performance import MachineScore, observer_check, score_machines, score_table
    from analysis.pool_sizes import (
        PoolSizeChange,
        PoolSizeCurve,
        pool_size_changes,
        pool_size_table,
        score_pool_sizes,
    )
    from analysis.power import (
        Assessment,
        Costs,
        Design,
        Forecast,
        Frame,
        Layout,
        Optimum,
        Outlook,
        Population,
        Power,
        Screening,
        Variances,
        allocation_table,
        answers_for_difference,
        compare_sessions,
        default_protocol_design,
        describe_power,
        design_of_study,
        expected_bill,
        find_design,
        optimize,
        optimize_design,
        read_design,
        sessions_until,
        simulate_analysis,
        simulate_judgements,
        simulate_power,
        smallest_detectable,
    )
    from analysis.power.error_rates import error_rate_table, error_rates
    from analysis.preregistration import (
        Checklist,
        Conduct,
        Deviation,
        Plan,
        Preregistration,
        describe_conduct,
        fill_checklist,
        list_deviations,
        preregister,
        preregistrations,
        read_plan,
        read_preregistration,
        write_plan_template,
    )
    from analysis.proportions import (
        Intervals,
        ProportionCell,
        Proportions,
        StandardErrors,
        compare_intervals,
        estimate_proportions,
    )
    from analysis.psychophysics import (
        Consistency,
        Detection,
        DifficultyCurve,
        DifficultyCurves,
        GuessingCheck,
        Learning,
        Metacognition,
        ReactionTimes,
        ReferencesComparison,
        check_guessing,
        compare_references,
        confidence_table,
        d_prime_from_proportion,
        detect,
        detection_table,
        fit_difficulty_curves,
        learning_curve,
        measure_confidence,
        position_bias,
        query_quantiles,
        reaction_times,
        repeat_consistency,
        type2_auroc,
    )
    from analysis.published import published_means, published_models
    from analysis.ranks import RankedModel, Ranks, rank_models, rank_values
    from analysis.reliability import (
        AccuracyCeiling,
        CurvePoint,
        ImpliedReliability,
        LearningCurve,
        Reliability,
        accuracy_ceiling,
        answers_needed,
        estimate_reliability,
        implied_reliability,
        noise_ceiling,
        reliability_curve,
        reliability_table,
    )
    from analysis.report import Report, Section, Settings, Written, analyze, make_report, render_page, write_report
    from analysis.report.sections.scaling import describe_scaling, scaling_points
    from analysis.scaling import (
        PREDICTORS,
        JointRegression,
        MixedModelSlope,
        PassingMargins,
        Place,
        Predictor,
        Refusal,
        RegressionBayesFactor,
        SavageDickey,
        ScalingResult,
        ScalingStudy,
        Slope,
        SlopeEquivalence,
        Verdict,
        adjust_holm,
        assess_equivalence,
        fit_scaling,
        jzs_bayes_factor,
        least_squares,
        make_slope,
        meta_regression,
        models_from_cards,
        models_from_study,
        passing_margins,
        predictor_values,
        regression_bayes_factor,
        savage_dickey,
        tabulate_means,
    )
    from analysis.simulated_dataset import SimulatedObserver, simulate_dataset
    from analysis.variance_components import Components, split_variance
    from benchmark.errors import AnalysisError
    from benchmark.estimate import Estimate

# What is in the data?
__all__ = [
    "AnalysisError", "Dataset", "Description", "Estimate", "SimulatedObserver", "derive_sessions", "describe",
    "import_csv",
    "import_imi", "judgements", "model_facts", "published_means", "published_models", "read_dataset",
    "read_mapping", "simulate_dataset", "split_conditions", "unit_facts", "with_models",
]  # fmt: skip
# Whose answers count?
__all__ += [
    "DEFAULT_RULES", "Exclusion", "Rule", "all_of", "any_of", "catch_rule", "describe_exclusions", "exclude",
    "instruction_time_rule", "judge_sessions", "make_rule", "named_rule", "not_", "position_rule", "practice_rule",
    "protocol_rules", "total_time_rule", "usable_responses",
]  # fmt: skip
# How well are units understood?
__all__ += [
    "Components", "Intervals", "ProportionCell", "Proportions", "StandardErrors", "compare_intervals",
    "estimate_at_any_time", "estimate_proportions", "follow_mean", "spell_estimand", "split_variance",
]  # fmt: skip
# Which models differ?
__all__ += [
    "Comparison", "Difference", "RankedModel", "Ranks", "UnitLevelTest", "compare_conditions", "compare_groups",
    "compare_models", "compare_unit_means", "rank_models", "rank_values",
]  # fmt: skip
# Does the result hang on who was left out?
__all__ += [
    "Agreement", "Choice", "Multiverse", "Specification", "proportion_headline", "rule_choices", "run_multiverse",
]  # fmt: skip
# What do single answers say together?
__all__ += [
    "Bootstrap", "GuessRates", "LapseSweep", "MixedModel", "MixedModelFit", "Sensitivity", "estimate_guess_rates",
    "estimate_lapse", "guessing_sensitivity", "lapse_sweep", "learning_sensitivity", "slopes_from",
]  # fmt: skip
# Do larger models, more data or more accuracy help?
__all__ += [
    "PREDICTORS",
    "JointRegression",
    "MixedModelSlope",
    "PassingMargins",
    "Place",
    "Predictor",
    "Refusal",
    "RegressionBayesFactor",
    "SavageDickey",
    "ScalingResult",
    "ScalingStudy",
    "Slope",
    "SlopeEquivalence",
    "Verdict",
    "adjust_holm",
    "assess_equivalence",
    "describe_scaling",
    "fit_scaling",
    "jzs_bayes_factor",
    "least_squares",
    "make_slope",
    "meta_regression",
    "models_from_cards",
    "models_from_study",
    "passing_margins",
    "predictor_values",
    "regression_bayes_factor",
    "savage_dickey",
    "scaling_points",
    "tabulate_means",
]  # fmt: skip
# What could a study see, and what would it cost?
__all__ += [
    "Assessment", "Costs", "Design", "Forecast", "Frame", "Layout", "Optimum", "Outlook", "Population", "Power",
    "Screening", "Variances", "allocation_table", "answers_for_difference", "compare_sessions",
    "default_protocol_design", "describe_power", "design_of_study", "error_rate_table", "error_rates",
    "expected_bill", "find_design", "optimize", "optimize_design", "read_design", "sessions_until",
    "simulate_analysis", "simulate_judgements", "simulate_power", "smallest_detectable",
]  # fmt: skip
# How do people answer?
__all__ += [
    "Consistency", "Detection", "DifficultyCurve", "DifficultyCurves", "GuessingCheck", "Learning", "Metacognition",
    "ReactionTimes", "ReferencesComparison", "check_guessing", "compare_references", "confidence_table",
    "d_prime_from_proportion", "detect", "detection_table", "fit_difficulty_curves", "learning_curve",
    "measure_confidence", "position_bias", "query_quantiles", "reaction_times", "repeat_consistency", "type2_auroc",
]  # fmt: skip
# How reliable are the scores of units?
__all__ += [
    "AccuracyCeiling", "CurvePoint", "ImpliedReliability", "LearningCurve", "Reliability", "accuracy_ceiling",
    "answers_needed", "estimate_reliability", "implied_reliability", "noise_ceiling", "reliability_curve",
    "reliability_table",
]  # fmt: skip
# Do machine observers answer as people do?
__all__ += [
    "Calibration", "Coverage", "ErrorConsistency", "ForecastScore", "MachineScore", "ModelAgreement",
    "PoolSizeChange", "PoolSizeCurve", "PoweredScore", "TemperatureFit", "UnitAgreement", "calibrate",
    "change_temperature", "error_consistency", "fit_temperature", "machine_answers", "model_agreement",
    "observer_check", "pool_size_changes", "pool_size_table", "saving_bound", "score_forecasts", "score_machines",
    "score_pool_sizes", "score_table", "score_with_machine", "simulate_coverage", "unit_agreement",
]  # fmt: skip
# How do models stand?
__all__ += [
    "Leaderboard", "Result", "build_leaderboard", "build_site", "make_published_results", "make_results",
    "read_result", "read_results", "verify_result", "verify_results", "write_result",
]  # fmt: skip
# What was planned, and what came of it?
__all__ += [
    "Checklist", "Conduct", "Deviation", "Plan", "Preregistration", "Report", "Section", "Settings", "Written",
    "analyze", "describe_conduct", "fill_checklist", "list_deviations", "make_report", "preregister",
    "preregistrations", "read_plan", "read_preregistration", "render_page", "write_plan_template", "write_report",
]  # fmt: skip
# How is it drawn?
__all__ += [
    "figure_as_svg", "figure_of", "plot_calibration", "plot_confidence", "plot_design_frontier", "plot_difficulty",
    "plot_guessing", "plot_human_machine", "plot_intervals_compared", "plot_layers", "plot_leverage",
    "plot_machine_scores", "plot_margins", "plot_model_comparison", "plot_natural_against_synthetic",
    "plot_pool_sizes", "plot_power", "plot_prior_sweep", "plot_ranks", "plot_reliability_curve", "plot_scaling",
    "plot_specification_curve", "plot_unit_distribution", "plot_variance_components", "save_figure",
]  # fmt: skip

_NAMES = {
    "analysis.agreement": (
        "Calibration Coverage ErrorConsistency ForecastScore ModelAgreement PoweredScore TemperatureFit "
        "UnitAgreement calibrate change_temperature error_consistency fit_temperature machine_answers "
        "model_agreement saving_bound score_forecasts score_with_machine simulate_coverage unit_agreement"
    ),
    "analysis.comparison": (
        "Comparison Difference UnitLevelTest compare_conditions compare_groups compare_models compare_unit_means"
    ),
    "analysis.confidence_sequences": "estimate_at_any_time follow_mean",
    "analysis.dataset": (
        "Dataset Description derive_sessions describe model_facts read_dataset unit_facts with_models"
    ),
    "analysis.estimands": "spell_estimand",
    "analysis.exclusions": (
        "DEFAULT_RULES Exclusion Rule all_of any_of catch_rule describe_exclusions exclude instruction_time_rule "
        "judge_sessions make_rule named_rule not_ position_rule practice_rule protocol_rules total_time_rule "
        "usable_responses"
    ),
    "analysis.figures": (
        "figure_as_svg figure_of plot_calibration plot_confidence plot_design_frontier plot_difficulty plot_guessing "
        "plot_human_machine plot_intervals_compared plot_layers plot_leverage plot_machine_scores plot_margins "
        "plot_model_comparison plot_natural_against_synthetic plot_pool_sizes plot_power plot_prior_sweep plot_ranks "
        "plot_reliability_curve plot_scaling plot_specification_curve plot_unit_distribution "
        "plot_variance_components save_figure"
    ),
    "analysis.importing.imi": "import_imi",
    "analysis.importing.mapping": "read_mapping",
    "analysis.importing.tables": "import_csv",
    "analysis.judgements": "judgements split_conditions",
    "analysis.leaderboard.making": "make_published_results make_results",
    "analysis.leaderboard.result": "Result read_result read_results write_result",
    "analysis.leaderboard.site": "build_site",
    "analysis.leaderboard.standings": "Leaderboard build_leaderboard",
    "analysis.leaderboard.verification": "verify_result verify_results",
    "analysis.mixed_model": (
        "Bootstrap GuessRates LapseSweep MixedModel MixedModelFit Sensitivity estimate_guess_rates estimate_lapse "
        "guessing_sensitivity lapse_sweep learning_sensitivity"
    ),
    "analysis.mixed_model.slopes": "slopes_from",
    "analysis.multiverse": (
        "Agreement Choice Multiverse Specification proportion_headline rule_choices run_multiverse"
    ),
    "analysis.performance": "MachineScore observer_check score_machines score_table",
    "analysis.pool_sizes": "PoolSizeChange PoolSizeCurve pool_size_changes pool_size_table score_pool_sizes",
    "analysis.power": (
        "Assessment Costs Design Forecast Frame Layout Optimum Outlook Population Power Screening Variances "
        "allocation_table answers_for_difference compare_sessions default_protocol_design describe_power "
        "design_of_study expected_bill find_design optimize optimize_design read_design sessions_until "
        "simulate_analysis simulate_judgements simulate_power smallest_detectable"
    ),
    "analysis.power.error_rates": "error_rate_table error_rates",
    "analysis.preregistration": (
        "Checklist Conduct Deviation Plan Preregistration describe_conduct fill_checklist list_deviations "
        "preregister preregistrations read_plan read_preregistration write_plan_template"
    ),
    "analysis.proportions": (
        "Intervals ProportionCell Proportions StandardErrors compare_intervals estimate_proportions"
    ),
    "analysis.psychophysics": (
        "Consistency Detection DifficultyCurve DifficultyCurves GuessingCheck Learning Metacognition ReactionTimes "
        "ReferencesComparison check_guessing compare_references confidence_table d_prime_from_proportion detect "
        "detection_table fit_difficulty_curves learning_curve measure_confidence position_bias query_quantiles "
        "reaction_times repeat_consistency type2_auroc"
    ),
    "analysis.published": "published_means published_models",
    "analysis.ranks": "RankedModel Ranks rank_models rank_values",
    "analysis.reliability": (
        "AccuracyCeiling CurvePoint ImpliedReliability LearningCurve Reliability accuracy_ceiling answers_needed "
        "estimate_reliability implied_reliability noise_ceiling reliability_curve reliability_table"
    ),
    "analysis.report": "Report Section Settings Written analyze make_report render_page write_report",
    "analysis.report.sections.scaling": "describe_scaling scaling_points",
    "analysis.scaling": (
        "JointRegression MixedModelSlope PREDICTORS PassingMargins Place Predictor Refusal RegressionBayesFactor "
        "SavageDickey ScalingResult ScalingStudy Slope SlopeEquivalence Verdict adjust_holm assess_equivalence "
        "fit_scaling jzs_bayes_factor least_squares make_slope meta_regression models_from_cards models_from_study "
        "passing_margins predictor_values regression_bayes_factor savage_dickey tabulate_means"
    ),
    "analysis.simulated_dataset": "SimulatedObserver simulate_dataset",
    "analysis.variance_components": "Components split_variance",
    "benchmark.errors": "AnalysisError",
    "benchmark.estimate": "Estimate",
}
"""By module, the names that come from it."""

_HOMES = {name: (module, name) for module, names in _NAMES.items() for name in names.split()}


class _Package(ModuleType):
    """The package, in which a function outlives the loading of the module that it is named like."""

    def __setattr__(self, name: str, value: object) -> None:
        # Loading analysis/judgements.py would put that module in the place of the function of the same name.
        if isinstance(value, ModuleType) and _HOMES.get(name) == (value.__name__, name):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if not TYPE_CHECKING:  # A type checker would take every name, however it is spelled, for one that is found here.

    def __getattr__(name: str) -> object:
        """Return a public name, loading the module that it comes from."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, own = _HOMES[name]
        value = getattr(import_module(module), own)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """Return the public names."""
        return sorted({*globals(), *__all__})

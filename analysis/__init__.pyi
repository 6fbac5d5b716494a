# Chapters
from . import (
    agreement as agreement,
    comparison as comparison,
    dataset as dataset,
    exclusions as exclusions,
    figures as figures,
    importing as importing,
    leaderboard as leaderboard,
    machines as machines,
    mixed_model as mixed_model,
    multiverse as multiverse,
    power as power,
    preregistration as preregistration,
    proportions as proportions,
    psychophysics as psychophysics,
    published as published,
    reliability as reliability,
    report as report,
    scaling as scaling,
    simulated_dataset as simulated_dataset,
)

# What is in the data?
from .dataset import (
    Dataset as Dataset,
    describe as describe,
    judgements as judgements,
    read_dataset as read_dataset,
)
from .importing import (
    import_csv as import_csv,
    import_imi as import_imi,
)
from .published import (
    published_means as published_means,
    published_models as published_models,
)
from .results import (
    AnalysisError as AnalysisError,
    AnalysisResult as AnalysisResult,
    Estimate as Estimate,
)
from .settings import (
    Settings as Settings,
)
from .simulated_dataset import (
    simulate_dataset as simulate_dataset,
)

# Whose answers count, and does it matter?
from .exclusions import (
    DEFAULT_RULES as DEFAULT_RULES,
    Rule as Rule,
    exclude as exclude,
    named_rule as named_rule,
    protocol_rules as protocol_rules,
)
from .multiverse import (
    rule_choices as rule_choices,
    run_multiverse as run_multiverse,
)

# How well are units understood, and which models differ?
from .comparison import (
    compare_conditions as compare_conditions,
    compare_groups as compare_groups,
    compare_models as compare_models,
    rank_models as rank_models,
)
from .mixed_model import (
    MixedModel as MixedModel,
    guessing_sensitivity as guessing_sensitivity,
    lapse_sweep as lapse_sweep,
    learning_sensitivity as learning_sensitivity,
)
from .proportions import (
    compare_intervals as compare_intervals,
    estimate_proportions as estimate_proportions,
)

# Do larger models, more data or more accuracy help?
from .scaling import (
    PREDICTORS as PREDICTORS,
    fit_scaling as fit_scaling,
    models_from_cards as models_from_cards,
    models_from_study as models_from_study,
    passing_margins as passing_margins,
    tabulate_means as tabulate_means,
)

# What could a study detect, and what would it cost?
from .power import (
    Design as Design,
    compare_sessions as compare_sessions,
    describe_power as describe_power,
    find_design as find_design,
    optimize as optimize,
    read_design as read_design,
    sessions_until as sessions_until,
    simulate_judgements as simulate_judgements,
    simulate_power as simulate_power,
    smallest_detectable as smallest_detectable,
)

# How do people answer?
from .psychophysics import (
    check_guessing as check_guessing,
    compare_references as compare_references,
    detect as detect,
    fit_difficulty_curves as fit_difficulty_curves,
    learning_curve as learning_curve,
    measure_confidence as measure_confidence,
    position_bias as position_bias,
    reaction_times as reaction_times,
    repeat_consistency as repeat_consistency,
)

# How reliable are scores, and do machines agree with people?
from .agreement import (
    calibrate as calibrate,
    error_consistency as error_consistency,
    model_agreement as model_agreement,
    score_with_machine as score_with_machine,
    unit_agreement as unit_agreement,
)
from .machines import (
    score_machines as score_machines,
    score_pool_sizes as score_pool_sizes,
)
from .reliability import (
    answers_needed as answers_needed,
    estimate_reliability as estimate_reliability,
    noise_ceiling as noise_ceiling,
    reliability_curve as reliability_curve,
)

# What was planned, what came of it, and how do models stand?
from .leaderboard import (
    build_leaderboard as build_leaderboard,
    read_results as read_results,
    verify_results as verify_results,
)
from .preregistration import (
    preregister as preregister,
    read_preregistration as read_preregistration,
)
from .report import (
    analyze as analyze,
)

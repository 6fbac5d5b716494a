"""The composition root: joins the packages into the jobs that users start.

This is the only part of ``benchmark`` that knows of ``stimuli``, ``webapp`` and ``analysis``, and it imports them
inside its functions, so that ``benchmark`` itself stays light.
"""

from benchmark.workflow.answers import (
    analyze,
    assess_power,
    draft_plan,
    forecast_sessions,
    freeze_plan,
    import_release,
    import_table,
    optimize_design,
)
from benchmark.workflow.building import (
    Demo,
    build,
    check_sessions,
    demo_experiment,
    forecast,
    largest_observer,
    make_gallery,
    observe_study,
    observe_study_together,
    open_photographs,
    run_demo,
    score_study,
    try_parametrization,
    why_no_regression,
)
from benchmark.workflow.hosting import (
    back_up_study,
    brief_recruitment,
    export_study,
    forget_identifiers,
    hash_password,
    pay,
    reconcile_submissions,
    restore_study,
    serve_study,
    simulate,
)
from benchmark.workflow.pool_sizes import observe_pool_sizes, stored_pool_sizes
from benchmark.workflow.starting import start

__all__ = [
    "Demo",
    "analyze",
    "assess_power",
    "back_up_study",
    "brief_recruitment",
    "build",
    "check_sessions",
    "demo_experiment",
    "draft_plan",
    "export_study",
    "forecast",
    "forecast_sessions",
    "forget_identifiers",
    "freeze_plan",
    "hash_password",
    "import_release",
    "import_table",
    "largest_observer",
    "make_gallery",
    "observe_pool_sizes",
    "observe_study",
    "observe_study_together",
    "open_photographs",
    "optimize_design",
    "pay",
    "reconcile_submissions",
    "restore_study",
    "run_demo",
    "score_study",
    "serve_study",
    "simulate",
    "start",
    "stored_pool_sizes",
    "try_parametrization",
    "why_no_regression",
]

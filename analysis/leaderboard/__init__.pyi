from .making import (
    make_published_results as make_published_results,
    make_results as make_results,
)
from .result import (
    Result as Result,
    read_result as read_result,
    read_results as read_results,
    write_result as write_result,
)
from .site import (
    build_site as build_site,
)
from .standings import (
    Leaderboard as Leaderboard,
    build_leaderboard as build_leaderboard,
)
from .verification import (
    verify_result as verify_result,
    verify_results as verify_results,
)

"""The static site of the leaderboard: its tables, a page for every model and one for every unit.

Pages are made from a :class:`~analysis.leaderboard.standings.Leaderboard` and from nothing else, so their numbers are
those of the terminal and of the web app. They load nothing from elsewhere, need no server, and can lie under any
address. The same result files give the same bytes.
"""

from analysis.leaderboard.site.addresses import model_address, unit_address
from analysis.leaderboard.site.building import build_site

__all__ = ["build_site", "model_address", "unit_address"]

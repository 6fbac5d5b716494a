"""The leaderboard: result files, the tables that are made of them, and three views of those tables."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

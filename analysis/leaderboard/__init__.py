"""The leaderboard: result files, the tables that are made of them, and three views of those tables."""

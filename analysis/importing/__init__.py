"""Answers from elsewhere: the 2023 release, and any other laboratory's table through a mapping file."""

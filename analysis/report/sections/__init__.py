"""Sections of a report, each a function from the material to what it says."""

"""Feature visualisations: synthetic pictures that a unit responds to most, or least."""

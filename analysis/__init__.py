"""What the answers mean: estimates with intervals, and the figures that show them. Needs no torch."""

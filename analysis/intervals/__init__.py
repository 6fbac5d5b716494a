"""Intervals: critical values, percentiles of a bootstrap, proportions, and means over units."""

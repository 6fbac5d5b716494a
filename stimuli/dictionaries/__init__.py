"""Fitting bases to layers: positions are sampled in one pass, bases learn from them, and are measured on others."""

"""Scores of ensembles against the truth: statistics, averages that add, metrics."""

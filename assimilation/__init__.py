"""Data assimilation with a trajectory prior: observations in, ensembles of analyses out."""

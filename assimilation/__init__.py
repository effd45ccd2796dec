"""Data assimilation with a trajectory prior. Nothing is here yet but the package's place in the import rules."""

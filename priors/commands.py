"""The verbs of ``priors``: train, sample, inspect."""

import typer


def add_to(app: typer.Typer) -> None:
    """Give the command line its verbs."""

"""The verbs of ``assimilation``, gathered for the command line."""

import typer

from assimilation.commands import assimilate, demo, observe, prepare, simulate, verify


def add_to(app: typer.Typer) -> None:
    """Give the command line its verbs."""
    simulate.add_to(app)
    prepare.add_to(app)
    observe.add_to(app)
    assimilate.add_to(app)
    verify.add_to(app)
    demo.add_to(app)

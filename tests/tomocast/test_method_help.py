"""The help of ``reconstruct --method`` names every method that a configuration takes."""

import re
from typing import get_args

import typer

from recon.reconstructors import Method
from tomocast.cli import app


def test_the_help_names_every_method_and_no_other():
    reconstruct = typer.main.get_command(app).commands["reconstruct"]
    help_text = next(option.help for option in reconstruct.params if option.name == "method")
    union = get_args(Method)[0]
    known = {get_args(method.model_fields["name"].annotation)[0] for method in get_args(union)}
    named = set(
        re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.sub(r"\(.*?\)|with a diffusion prior", "", help_text))
    )
    assert named - {"or"} == known

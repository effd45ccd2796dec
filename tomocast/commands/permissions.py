"""``--follow-links`` and ``--force``: the same two options on every verb that reads files."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

Links = Annotated[
    bool,
    typer.Option("--follow-links", help="Read other files that an input refers to, wherever they are."),
]
Force = Annotated[bool, typer.Option("--force", help="Go on with input or results that cannot be right.")]


def permissive(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Return a verb with the two options, which hold while it runs; see `priors.runtime.files.permissions`."""

    @functools.wraps(verb)
    def run(*arguments: Any, follow_links: bool = False, force: bool = False, **options: Any) -> Any:
        from priors.runtime.files.permissions import permitted

        with permitted(links=follow_links, nonsense=force):
            return verb(*arguments, **options)

    signature = inspect.signature(verb, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter("follow_links", keyword, default=False, annotation=Links),
        inspect.Parameter("force", keyword, default=False, annotation=Force),
    ]
    whole = signature.replace(parameters=[*signature.parameters.values(), *added])
    run.__signature__ = whole  # type: ignore[attr-defined]
    run.__annotations__ = {name: one.annotation for name, one in whole.parameters.items()}
    return run

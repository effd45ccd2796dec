"""What ``inspect`` says of a prior."""

import sys


def inspect_prior(name: str, *, as_json: str | None) -> None:
    """Verify a prior (hash, weights, self-test) and print what it is.

    Raises:
        InputError: it is unknown or fails a check.
    """
    if as_json is None:
        sys.stdout.write(describe_prior(name))
        return
    from priors.card import load_prior, self_test_errors
    from priors.runtime.output import emit_json

    loaded = load_prior(name)
    record = {
        "card": loaded.card.model_dump(mode="json"),
        "parameters": sum(weight.numel() for weight in loaded.denoiser.parameters()),
        "self_test": self_test_errors(loaded),
        "verified": True,
    }
    if not emit_json(record, as_json):
        sys.stdout.write(describe_prior(name))


def describe_prior(name: str) -> str:
    """Load a prior, which verifies it, and return its card, size, self-test and held-out errors as text.

    Raises:
        InputError: it is unknown or fails a check.
    """
    from priors.card import load_prior, self_test_errors
    from priors.codec import Codec
    from priors.runtime.config import to_yaml

    loaded = load_prior(name)
    card = loaded.card
    parameters = sum(weight.numel() for weight in loaded.denoiser.parameters())
    # One level is one physical size for slices only: variables differ, and under a logarithm places do.
    scale = loaded.codec.scale if isinstance(loaded.codec, Codec) else None
    heading = "in network units" if scale is None else f"in {card.unit}"
    measure = "held-out denoising PSNR" + ("" if scale is None else " on [-1, 1]")
    lines = [
        to_yaml(card.model_copy(update={"held_out_psnr": {}, "self_test": {}})).rstrip(),
        "",
        f"weights: {parameters:,} parameters, sha256 as on the card",
        "",
        f"{'noise level':>12}  {heading:>16}  {measure:>34}",
    ]
    for level, value in card.held_out_psnr.items():
        lines.append(f"{level:>12g}  {level * (scale or 1):>16.4g}  {value:>31.2f} dB")
    lines += ["", f"{'noise level':>12}  {'error of the self-test field':>28}  {'on the card':>12}"]
    for level, error in self_test_errors(loaded).items():
        recorded = card.self_test.get(level)
        stated = "none" if recorded is None else f"{recorded:.4g}"
        lines.append(f"{level:>12g}  {error:>28.4g}  {stated:>12}")
    return "\n".join(lines) + "\n"

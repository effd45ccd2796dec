"""Cards and the priors they describe."""

from priors.card.description import PriorCard, TrajectoryCard
from priors.card.loading import (
    EMBEDDED,
    Prior,
    air_value,
    denoiser_of,
    embedded_names,
    find_prior,
    load_prior,
    read_card,
)
from priors.card.reference import AnyPrior, PriorReference, card_of_prior, known, open_prior, weights_bytes
from priors.card.self_test import SELF_TEST_LEVELS, self_test, self_test_errors
from priors.card.weights import file_sha256

__all__ = [
    "EMBEDDED",
    "SELF_TEST_LEVELS",
    "AnyPrior",
    "Prior",
    "PriorCard",
    "PriorReference",
    "TrajectoryCard",
    "air_value",
    "card_of_prior",
    "denoiser_of",
    "embedded_names",
    "file_sha256",
    "find_prior",
    "known",
    "load_prior",
    "open_prior",
    "read_card",
    "self_test",
    "self_test_errors",
    "weights_bytes",
]

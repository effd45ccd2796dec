"""The calibration on the card of the embedded CT prior is of the method as it is now."""

from priors.card import card_of_prior
from priors.runtime.config import load
from recon.ensembles.calibration import settings_hash
from recon.run.settings import ReconstructSettings


def test_the_default_settings_of_nerd_fast_have_calibration_rows():
    # Whoever changes them fits the rows again: tomocast calibrate ct-chest-256 VOLUME --views 8 16 30 --out card.yaml
    settings = load(ReconstructSettings, [{"method": {"name": "nerd-fast"}}])
    rows = [row for row in card_of_prior("ct-chest-256").calibration if row.method == "nerd-fast"]
    assert {row.settings for row in rows} == {settings_hash(settings.method)}
    assert {row.views for row in rows} == {8, 16, 30}

"""Records hold names, not places."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from priors.runtime.config import read_yaml
from priors.runtime.errors import InputError
from priors.runtime.run_folder.privacy import without_paths
from priors.runtime.run_folder.record import check_same_config, open_run


class Settings(BaseModel):
    prior: str
    unit: str = "1/mm"
    inside: list[str] = []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("start Nerd(prior='/home/jane doe/priors/mine', seed=0)", "start Nerd(prior='mine', seed=0)"),
        (
            "tomocast train a.yaml data=/data/clinic/ward7/ct --out run",
            "tomocast train a.yaml data=ct --out run",
        ),
        (r"prior='C:\Users\jane\mine'", "prior='mine'"),
        ("attenuation in 1/mm, m s-1/2, https://example.org/a/b", None),
        ("2000-01-01T00:00:00+0000 views ::4 3/4", None),
        ("~/secret/mine is read", "mine is read"),
    ],
)
def test_texts(text: str, kept: str | None):
    assert without_paths(text) == (text if kept is None else kept)


def test_settings_and_logs_name_files_and_a_moved_prior_is_the_same(tmp_path, monkeypatch):
    (tmp_path / "clinic" / "mine").mkdir(parents=True)
    settings = Settings(prior=str(tmp_path / "clinic" / "mine"), inside=[str(tmp_path / "a.nc")])
    with open_run(tmp_path / "run") as run:
        run.write_config(settings)
        run.log(f"start {settings!r}")
        assert read_yaml(run.file("config.yaml")) == {"prior": "mine", "unit": "1/mm", "inside": ["a.nc"]}
        for name in ("config.yaml", "log.txt"):
            assert "clinic" not in run.file(name).read_text()
        check_same_config(run, settings)
        monkeypatch.chdir(tmp_path)
        check_same_config(run, Settings(prior="clinic/mine", inside=["a.nc"]))
        with pytest.raises(InputError, match="prior was 'mine'"):
            check_same_config(run, Settings(prior=str(Path("clinic/other")), inside=["a.nc"]))

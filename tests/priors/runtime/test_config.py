"""Configuration: what is merged, what is refused and what the message says."""

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from priors.runtime.config import load, merge, nearest, parse_override, read_yaml, settings_of, to_yaml
from priors.runtime.errors import InputError


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Smooth(Strict):
    name: Literal["smooth"] = "smooth"
    weight: float = Field(1.0, gt=0)
    steps: int = 3


class Sharp(Strict):
    name: Literal["sharp"] = "sharp"
    window: Literal["hann", "ramp"] = "ramp"


class Detector(Strict):
    columns: int
    spacing_mm: tuple[float, float] = (1.0, 1.0)


class Job(Strict):
    method: Annotated[Smooth | Sharp, Field(discriminator="name")] = Sharp()
    detector: Detector | None = None
    seed: int = 0


def message(*overrides: str, layers=()) -> str:
    with pytest.raises(InputError) as caught:
        load(Job, layers, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_layers_win_in_order_and_overrides_win_over_all(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 1\nmethod: {name: smooth, weight: 2e-3, steps: 7}\n")
    (tmp_path / "b.yaml").write_text("method:\n  steps: 8\n")
    job = load(Job, [tmp_path / "a.yaml", tmp_path / "b.yaml"], ["method.weight=5e-1"])
    assert job == Job(seed=1, method=Smooth(weight=0.5, steps=8))


def test_a_field_of_the_default_member_needs_no_name():
    assert load(Job, (), ["method.window=hann"]).method == Sharp(window="hann")


def test_an_option_goes_with_the_member_that_an_override_picks():
    """``--steps 4 method.name=smooth``: the option was dropped with the member it was first laid over."""
    chosen = settings_of(Job, None, {"method.steps": 4, "seed": None}, ["method.name=smooth"])
    assert chosen == Job(method=Smooth(steps=4))
    with pytest.raises(InputError, match="steps: unknown key"):
        settings_of(Job, None, {"method.steps": 4}, [])


def test_another_member_of_a_family_starts_afresh():
    below = {"method": {"name": "smooth", "weight": 2.0}}
    assert load(Job, [below], ["method.name=sharp"]).method == Sharp()
    assert load(Job, [below], ["method.name=sharp", "method.window=hann"]).method == Sharp(window="hann")
    assert load(Job, [below], ["method.window=hann", "method.name=sharp"]).method == Sharp(window="hann")


class Outer(Strict):
    job: Job = Job(detector=Detector(columns=640))
    jobs: dict[str, Job] = {}


def test_one_key_of_a_nested_section_keeps_the_others_of_its_owner():
    assert load(Outer, (), ["job.detector.spacing_mm=[2.0, 3.0]"]).job.detector == Detector(
        columns=640, spacing_mm=(2.0, 3.0)
    )
    assert load(Outer, (), ["job.method.name=smooth", "job.seed=2"]).job == Job(
        method=Smooth(), detector=Detector(columns=640), seed=2
    )
    assert load(Outer, (), ["jobs.a.method.window=hann"]).jobs == {"a": Job(method=Sharp(window="hann"))}


def test_the_written_text_builds_the_same_again(tmp_path):
    job = Job(method=Smooth(weight=1e-5), detector=Detector(columns=3), seed=4)
    (tmp_path / "config.yaml").write_text(to_yaml(job))
    assert load(Job, [tmp_path / "config.yaml"]) == job


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("method.wndow=hann", ["method.wndow", "unknown key", "'hann'", "did you mean 'window'"]),
        ("sed=3", ["sed", "found 3", "did you mean 'seed'"]),
        ("method.window=han", ["method.window", "'han'", "'hann' or 'ramp'"]),
        ("method.name=smoth", ["method.name", "'smoth'", "one of smooth, sharp", "did you mean 'smooth'"]),
        ("seed=x", ["seed", "'x'", "integer"]),
        ("seed=", ["seed", "None"]),
        ("method=3", ["method", "found 3"]),
        ("detector.rows=3", ["detector.rows", "detector.columns", "expected a value"]),
        ("detector={columns: 3, spacing_mm: [1, a]}", ["detector.spacing_mm.1", "'a'"]),
        ("qqq=1", ["qqq", "expected one of detector, method, seed"]),
        ("seed", ["'seed'", "key=value"]),
        ("=3", ["key=value"]),
        ("a..b=3", ["key=value"]),
        ("seed=[1", ["seed=[1", "YAML"]),
        ("seed=${oc.env:HOME}", ["expressions are not evaluated"]),
    ],
)
def test_a_mistake_names_key_value_and_expectation(override, parts):
    text = message(override)
    for part in parts:
        assert part in text


def test_all_mistakes_come_at_once():
    text = message("method.name=smooth", "method.weight=-1", "method.stps=3", "seed=x")
    for key in ("method.weight", "method.stps", "seed"):
        assert key in text
    assert "did you mean 'steps'" in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", "expected a YAML mapping"),
        ("a: [1\n", "no valid YAML"),
        ("seed: 1\nseed: 2\n", "duplicate"),
        ("seed: !!python/object/apply:os.getpid []\n", "no valid YAML"),
        ("seed: ${other}\n", "expressions are not evaluated"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, says):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_yaml(tmp_path / "bad.yaml")
    assert "bad.yaml" in str(caught.value)


def test_a_file_that_is_absent_or_binary_is_named(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("bad.yaml", "none.yaml"):
        with pytest.raises(InputError, match=name):
            read_yaml(tmp_path / name)


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load(Job, [tmp_path / "empty.yaml"]) == Job()


def test_interpolation_is_not_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("TOMOCAST_SECRET", "42")
    assert "42" not in message("seed=${oc.env:TOMOCAST_SECRET}")


Trees = st.recursive(
    st.integers() | st.booleans(),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
Mappings = st.dictionaries(st.sampled_from("abc"), Trees, max_size=3)


@given(Mappings, Mappings)
def test_merging_keeps_both_and_lets_the_upper_one_win(below, above):
    merged = merge(below, above)
    assert merged.keys() == below.keys() | above.keys()
    assert merge(below, {}) == below
    assert merge(merged, above) == merged


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans())
def test_an_override_reads_numbers_as_yaml_does(value):
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    assert parse_override(f"a.b={text}") == {"a": {"b": value}}


def test_the_nearest_word_is_near():
    assert nearest("wieght", ["weight", "steps"]) == "weight"
    assert nearest("zzz", ["weight", "steps"]) is None


@pytest.mark.parametrize("text", ["20:28", "100:102", "0:8:2", "9:25"])
def test_a_range_is_a_text_and_no_number_of_base_60(text, tmp_path):
    assert parse_override(f"slices={text}") == {"slices": text}
    (tmp_path / "a.yaml").write_text(
        f"slices: {text}  # some\nlist: [{text}, 1:2]\nflow: {{a: {text}}}\nquoted: '{text}'\n"
    )
    assert read_yaml(tmp_path / "a.yaml") == {
        "slices": text,
        "list": [text, "1:2"],
        "flow": {"a": text},
        "quoted": text,
    }

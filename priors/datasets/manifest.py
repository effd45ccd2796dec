"""Manifests of data sets: one YAML file each in ``data_manifests``, which both packages and their users share.

A manifest says where data comes from, under which licence, what its axes and units are, how it is split and how it is
prepared. Checksums are those that the publisher states, never ones computed from a copy of unknown origin; where
none is stated, or a fact could not be verified, the manifest says so.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from priors.runtime.config import read_yaml, validate
from priors.runtime.errors import InputError
from priors.runtime.shipped import shipped

FOLDER = shipped("data_manifests")
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
Text = Annotated[str, Field(min_length=1)]


class DataFile(BaseModel):
    """One file of a data set; what is not stated is that of the data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Text = Field(description="relative to the folder of the data set")
    url: str | None = Field(
        None, pattern=r"^https?://", description="where it can be had without registration"
    )
    sha256: Annotated[Hex, Field(min_length=64, max_length=64)] | None = None
    md5: Annotated[Hex, Field(min_length=32, max_length=32)] | None = None
    bytes: PositiveInt | None = Field(None, description="size, where the publisher states it")
    split: str | None = None
    source: str | None = None
    licence: str | None = None
    axes: str | None = None
    unit: str | None = None
    shape: list[PositiveInt] | None = None
    voxel_mm: list[PositiveFloat] | None = None
    note: str | None = None

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError("expected a path below the data set's folder")
        return path

    @property
    def checksum(self) -> str | None:
        """Return the published checksum as ``algorithm:digest``, the stronger one of two."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}" if self.md5 else None


class Manifest(BaseModel):
    """A data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    title: Text
    source: Text = Field(description="DOI or page of the publisher")
    licence: Text
    citation: Text
    access: Literal["direct", "registration", "tool", "generated", "local"] = Field(
        description="direct: by HTTP; registration or tool: see instructions; generated: by tomocast; local: held here"
    )
    instructions: str = Field("", description="how to get what has no direct URL")
    checksums: Text = Field(description="who published them, or 'not published'")
    axes: Text
    unit: Text
    contents: Text = Field(description="how many patients, scans, times ...")
    split_by: Literal["patient", "time", "sample", "none"]
    splits: Mapping[str, str] = Field(description="name of a split to what belongs to it")
    prepare: list[str] = Field(description="commands that make arrays for training or evaluation, in order")
    unverified: list[str] = Field(
        [], description="what could not be checked against the publisher's own page"
    )
    files: list[DataFile] = []

    @model_validator(mode="after")
    def _can_be_had(self) -> "Manifest":
        if self.access == "direct" and not any(item.url for item in self.files):
            raise ValueError("access: direct needs a file with a url")
        if self.access in ("registration", "tool", "generated") and not self.instructions:
            raise ValueError(f"instructions: access '{self.access}' needs some")
        paths = [item.path for item in self.files]
        if len({*paths}) < len(paths):
            raise ValueError("files: a path occurs twice")
        return self


def names() -> list[str]:
    """Return the names of the data sets that have a manifest."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def manifest(name: str) -> Manifest:
    """Return a manifest by name, or from a YAML file.

    Raises:
        InputError: there is none, or it does not follow the schema.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise InputError(
            f"data: found no manifest '{name}', expected one of {', '.join(names())}, or a YAML file"
        )
    tree: dict[str, Any] = read_yaml(path)
    try:
        return validate(Manifest, tree)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error

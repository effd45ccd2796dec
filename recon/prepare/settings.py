"""Settings of ``prepare slices``: licence, split, and which series are taken."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from priors.runtime.system.seeds import Seed


class SliceSettings(BaseModel):
    """How CT volumes become the slices of a prepared folder.

    Attributes:
        licence: under which the volumes may be used; never assumed, it is kept with every series.
        validation: share of the patients that is held out, at least one of them.
        hold_out: patients to hold out instead, by DICOM PatientID or by name of folder or file.
        seed: of the split; the same patients and seed give the same split.
        patients: what tells patients apart: ``auto`` takes the DICOM PatientID, and the folder or file where none
            is stated; ``folders`` the first folder below the source; ``files`` every file.
        reduce: slices become means of blocks of this many pixels along both axes.
        min_slices: series of fewer slices are left out.
        pixel_mm: series whose pixels, after ``reduce``, lie outside this range are left out.
        skip_unreadable: leave out series that cannot be read instead of stopping at the first.
        phantoms: number of procedural thorax slices to add to the training split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    licence: str = Field(min_length=1)
    validation: float = Field(0.2, gt=0, lt=1)
    hold_out: tuple[str, ...] = ()
    seed: Seed = 0
    patients: Literal["auto", "folders", "files"] = "auto"
    reduce: int = Field(1, ge=1, le=16)
    min_slices: int = Field(8, ge=1)
    pixel_mm: tuple[float, float] | None = None
    skip_unreadable: bool = False
    phantoms: int = Field(0, ge=0)

    @field_validator("licence")
    @classmethod
    def _licence_says_something(cls, text: str) -> str:
        if not text.strip():
            raise ValueError(
                "expected a licence, such as CC-BY-4.0, or the terms the volumes were given under"
            )
        return text.strip()

    @model_validator(mode="after")
    def _spacings_are_ordered(self) -> "SliceSettings":
        if self.pixel_mm is not None and not 0 < self.pixel_mm[0] <= self.pixel_mm[1]:
            raise ValueError(f"pixel_mm {self.pixel_mm} must be a positive range, smallest first")
        return self

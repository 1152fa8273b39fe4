"""What of the store is kept, and whether the rest is removed or only named."""

from dataclasses import dataclass, field

from adc_pipeline.core.errors import PipelineError


@dataclass(frozen=True)
class RetentionSettings:
    """Settings of the job `prune`."""

    keep_versions: int = field(
        default=3, metadata={"description": "Newest versions of each artefact that are kept, whatever their age."}
    )
    keep_days: float = field(
        default=30.0, metadata={"description": "Days for which every version is kept, however many there are."}
    )
    delete: bool = field(
        default=False, metadata={"description": "Whether to remove; without it the job only says what it would remove."}
    )

    def __post_init__(self) -> None:
        if self.keep_versions < 1:
            raise PipelineError(
                f"The setting `keep_versions` of the retention is {self.keep_versions}; use 1 or more (what is in place"
                " is kept in any case)."
            )
        if not self.keep_days >= 0:
            raise PipelineError(f"The setting `keep_days` of the retention is {self.keep_days}; use 0 or more.")

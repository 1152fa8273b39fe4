"""Settings of the asset `utterances`."""

from dataclasses import dataclass, field

from adc_pipeline.core.errors import PipelineError


@dataclass(frozen=True)
class UtteranceSettings:
    """How a raw corpus is read, and how much of it may be left aside."""

    adopt_roots: bool = field(
        default=True,
        metadata={
            "description": "Where a conversation starts in the middle and exactly one utterance has its"
            " parent outside it, take that one as the root."
        },
    )
    max_set_aside: float = field(
        default=0.05,
        metadata={"description": "The largest share of utterances that may be set aside before the stage fails."},
    )
    decode_entities: bool = field(
        default=True,
        metadata={"description": "Turn &lt; &gt; &quot; &#39; &amp; in texts and titles into < > \" ' &, once."},
    )
    shards: int = field(
        default=1,
        metadata={
            "description": "Parts in which the corpus is worked on, one after the other, each remembered when it is"
            " done; 1 up to some 30 million utterances. The datasets are the same whatever the number."
        },
    )

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= 99_999:
            raise PipelineError(f"shards is {self.shards}: give a whole number from 1 to 99999.")

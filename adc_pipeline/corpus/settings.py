"""Settings of the assets `raw_corpus` and `utterances`."""

from dataclasses import dataclass, field

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.core.settings import setting
from adc_pipeline.corpus.formats import Format


@dataclass(frozen=True)
class CorpusSettings:
    """Settings of the asset `raw_corpus`."""

    corpus: str = setting(
        "",
        "sample; a path to a ConvoKit folder or zip, a Reddit dump (.zst, .gz, .jsonl, .ndjson), a"
        " folder of dumps, a Parquet or CSV file; or a ConvoKit name such as reddit-corpus-small. Several are"
        " separated by commas. Empty takes ADC_CORPUS, or sample.",
    )
    format: Format = setting("auto", "What the corpus is: auto looks into it; convokit, dump and table override that.")
    columns: dict[str, str] = field(
        default_factory=dict,
        metadata={"description": "For a table: our column to the file's where they differ, such as {text: body}."},
    )
    sample_conversations: int = setting(0, "Conversations in the generated sample; 0 takes its own default.")
    sample_seed: int = setting(0, "Seed of the generated sample.")


@dataclass(frozen=True)
class UtteranceSettings:
    """How a raw corpus is read, and how much of it may be left aside."""

    adopt_roots: bool = setting(
        True,
        "Where a conversation starts in the middle and exactly one utterance has its"
        " parent outside it, take that one as the root.",
    )
    max_set_aside: float = setting(
        0.05, "The largest share of utterances that may be set aside before the stage fails."
    )
    decode_entities: bool = setting(
        True, "Turn &lt; &gt; &quot; &#39; &amp; in texts and titles into < > \" ' &, once."
    )
    shards: int = setting(
        1,
        "Parts in which the corpus is worked on, one after the other, each remembered when it is"
        " done; 1 up to some 30 million utterances. The datasets are the same whatever the number.",
    )

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= 99_999:
            raise PipelineError(f"shards is {self.shards}: give a whole number from 1 to 99999.")

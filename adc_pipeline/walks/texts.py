"""Read the texts that a tokenizer may be trained on: utterances of the training split, rendered as in walks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adc_pipeline.core.engine import Engine
from adc_pipeline.walks.rendering import create_rendered
from adc_pipeline.walks.splits import split_sql


def training_texts(utterances: Path, walks: Mapping[str, Any], spill: Path, engine: Engine) -> Iterator[str]:
    """Yield the rendered utterances of the training split, ordered by a hash of their ids.

    `walks` are the settings of a walk dataset, whose split, speakers, mentions and format are used.
    """
    with engine.connect(spill) as connection:
        create_rendered(connection, utterances, walks["format"], walks["speakers"], walks["mentions"])
        split = split_sql("conversation_id", walks["shares"])
        rows = connection.execute(
            f"""
            SELECT segment FROM (
                SELECT id, position, conversation_id, segment FROM rendered_roots UNION ALL
                SELECT id, position, conversation_id, segment FROM rendered_replies SEMI JOIN (
                    FROM tree WHERE depth > 0) AS t USING (position)
            ) WHERE {split} = 'train' ORDER BY md5(id), position
            """  # noqa: S608
        )
        while batch := rows.fetchmany(10_000):
            for (segment,) in batch:
                yield segment

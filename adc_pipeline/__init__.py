"""Datasets and language models that learn from the replies people rejected.

One folder a stage, in the order in which the data flows: `corpus`, `ranking`, `walks`, `training`,
`evaluation`. This file imports nothing, so that `adc_pipeline.training` runs where Dagster is not
installed; what Dagster loads is `adc_pipeline.definitions`.
"""

"""Names of the tags by which the pipeline's runs are found and shown in MLflow."""

# MLflow's own tags.
NOTE, KIND, PARENT = "mlflow.note.content", "mlflow.experimentKind", "mlflow.parentRunId"
TRAINING = "custom_model_development"

# Tags that `tracking/lineage.py` searches by.
ASSET, DIGEST = "adc.asset", "adc.digest"
# What the children of a parent run have in common: a Dagster run, or a study.
GROUP = "adc.group"
STUDY = "study"
# The process of a run, so that the next run can detect that it was killed.
PROCESS = "adc.process"

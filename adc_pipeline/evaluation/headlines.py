"""The headline measures: those that tables, MLflow and Dagster show of an evaluation. `metrics.json` has all figures."""

HEADLINES = (
    "preference_accuracy",
    "preference_accuracy.within_hour",
    "preference_accuracy.later_doubled",
    "steering",
    "in_context_improvement",
    "verdict_calibration.brier",
    "bits_per_byte",
    "bits_per_byte.accepted",
    "bits_per_byte.rejected",
    "perplexity",
)
# Those by which two models of different datasets are compared first.
FIRST = ("preference_accuracy", "steering", "in_context_improvement")

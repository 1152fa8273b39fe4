"""The headline measures: those of an evaluation that tables, MLflow and Dagster show. `metrics.json` has all."""

HEADLINES = (
    "preference_accuracy",
    "preference_accuracy.within_hour",
    "preference_accuracy.later_doubled",
    "steering",
    "in_context_improvement",
    "rejection_contrast",
    "policy_improvement",
    "policy_improvement.minus_yoked",
    "verdict_calibration.brier",
    "bits_per_byte",
    "bits_per_byte.accepted",
    "bits_per_byte.rejected",
    "perplexity",
)
# Those by which two models of different datasets are compared first.
FIRST = ("preference_accuracy", "steering", "in_context_improvement", "policy_improvement")

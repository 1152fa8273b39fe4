"""`python -m adc_pipeline` is the command `adc`."""

from adc_pipeline.cli.main import main

main()

"""The command `adc`; `main.py` declares its subcommands."""

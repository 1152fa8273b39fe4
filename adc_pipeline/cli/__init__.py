"""The command `adc`: `adc run`, `adc dev`, `adc report`, `adc generate`, `adc lineage`, `adc study`."""

"""The deterministic simulator: the real machines on virtual time, from one seed."""

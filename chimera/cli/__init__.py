"""The command line: `chimera up`, `submit`, `status` and what else a terminal is good for."""

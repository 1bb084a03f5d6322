"""What outlives every process: journals, control state, objects."""

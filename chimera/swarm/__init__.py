"""The tiers as pure machines: events in, effects out; no clock, no I/O, no Ray."""

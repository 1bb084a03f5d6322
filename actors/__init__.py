"""Ray shells of the tiers: they turn the world into events, and effects into calls."""

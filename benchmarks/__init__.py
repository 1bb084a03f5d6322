"""Measures the budgets: a file for each, all of them interleaved with plain Ray of the same run."""

"""Judging a comparison: its arms, the rule, and the account of what came of it. No torch."""

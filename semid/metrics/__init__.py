"""Measures of a set of semantic IDs: pure functions on arrays, each stating its definition."""

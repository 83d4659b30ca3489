"""The figures of a set of semantic IDs, put together from `semid.metrics`, and what they say."""

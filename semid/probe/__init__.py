"""IDs judged by recommenders."""

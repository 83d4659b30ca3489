"""Quantizers side by side: what is compared, one run of it, and what came of all runs."""

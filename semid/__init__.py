"""semid: semantic IDs for recommender systems, from an item catalog to a table of stable codes.

Public names are resolved when first used, so that ``import semid`` loads neither torch, faiss nor
pandas.
"""

__version__ = "0.1.0"

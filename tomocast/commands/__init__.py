"""The verbs that belong to no half: ``config`` and ``inspect``."""

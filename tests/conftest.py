"""Settings of every test."""

from hypothesis import settings

# Time on a busy machine says nothing about a property.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

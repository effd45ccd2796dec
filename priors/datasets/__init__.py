"""Public data sets a user trains on or evaluates with: what they are, and how to get and check their files."""

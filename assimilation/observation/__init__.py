"""What is observed of a state, and how wrong it is."""

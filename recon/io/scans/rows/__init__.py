"""Which rows of a scan are read, and what a few rows tell about all."""

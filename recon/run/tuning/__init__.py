"""The job of ``tune``: settings of a method chosen on scans whose volumes are known."""

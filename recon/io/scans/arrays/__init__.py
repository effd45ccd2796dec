"""Arrays that a scan.yaml names: opened, and read as line integrals of some rows."""

"""Volumes larger than the memory: reconstructed slab after slab of slices."""

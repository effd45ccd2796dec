"""Nowcasts of rain: what was last seen, carried on and disturbed by scale, with a prior where it knows better."""

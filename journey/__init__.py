"""The domain: a pure, synchronous fold. No I/O, no clock, no chance."""

"""How good the models are, on real events and on a shop whose truth is known: ``python -m benchmarks.quality``."""

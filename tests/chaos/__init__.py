"""Chaos on a real broker: bounded, seeded rounds of faults, each judged by the oracle."""

"""Models that learn from each event: policies and states, no customers, no decisions."""

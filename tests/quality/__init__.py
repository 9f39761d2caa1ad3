"""Floors of the models' quality, through the product's own path."""

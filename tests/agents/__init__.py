"""Faust's own objects on fakes: no broker."""

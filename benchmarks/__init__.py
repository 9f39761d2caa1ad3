"""What an event costs, against a bare consumer loop and a plain Faust application, on one real broker: `make bench`."""

"""The shell: Kafka, Faust, Redis and HTTP around the pure fold of ``journey``."""

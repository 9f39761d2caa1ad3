"""Real Apache Kafka and Redis: killed, frozen, joined and left; then every customer is counted."""

"""The agents: each is one loop over Faust's chunks. They meet on topics, never in code."""

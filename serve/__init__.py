"""The edge: what reaches the swarm from outside the Ray cluster."""

"""The edges of a swarm: HTTP, on Ray Serve."""

"""What a swarm and others tell each other through a broker: commands in, events out."""

"""Where commands and events travel: one port, on this machine or on a broker."""

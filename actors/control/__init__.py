"""The region link, `chimera.control.v1`: coordinators steered from another Ray cluster by gRPC."""

"""One file a version of the control store's schema."""

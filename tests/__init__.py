"""The tests; a package, so that fixtures of a directory end with it (pytest's scope `package`)."""

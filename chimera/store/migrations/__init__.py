"""The control store's schema, as steps from one version to the next."""

#: the newest version; a store that says so needs no look at the steps
HEAD = "0002"

"""What is promised, on real swarms; a package, so that the shared one ends with its tests."""

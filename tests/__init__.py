"""The tests of univae; a package, because a library that some extras install has one of its name."""

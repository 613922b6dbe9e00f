"""Builds of a release from a source tree in upstream's form."""

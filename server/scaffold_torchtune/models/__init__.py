"""Frozen models that the stages exchange."""

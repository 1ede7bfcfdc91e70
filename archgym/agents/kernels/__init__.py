"""Compiled code of the agents."""

__all__ = ()

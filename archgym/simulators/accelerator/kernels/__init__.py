"""Compiled code of this simulator."""

__all__ = ()

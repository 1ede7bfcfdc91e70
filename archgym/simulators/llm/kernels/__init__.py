"""Compiled code of the language-model simulators."""

__all__ = ()

"""Compiled code of this simulator."""

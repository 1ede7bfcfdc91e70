"""Compiled code of the language-model simulators."""

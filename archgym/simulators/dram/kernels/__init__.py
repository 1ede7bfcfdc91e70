"""The compiled code of the DRAM simulator."""

__all__ = ()

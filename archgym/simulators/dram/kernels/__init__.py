"""The compiled code of the DRAM simulator."""

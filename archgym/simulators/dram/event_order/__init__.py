"""Measurements of the exact order of events, ``order="event"`` of the DRAM simulator."""

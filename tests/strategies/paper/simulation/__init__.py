"""Deterministic simulation of paper trading: trader, journal, stand-in exchange, network, disk, clock and scheduler in one process.

From one seed: faults, and kills at every await and every write; the same seed gives the same journal to the byte (docs/decisions/064).
"""

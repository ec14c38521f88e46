"""DIPNET: a node for networks of distributed manufacturing. ARCHITECTURE.md draws the house."""

__version__ = "0.1.0"

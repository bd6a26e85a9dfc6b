"""concordant: the whole loop of reinforcement learning from human feedback.

The package imports nothing heavy by itself; each room is imported when it is used.
ARCHITECTURE.md draws the rooms and says which may import which.
"""

__version__ = "0.1.0"

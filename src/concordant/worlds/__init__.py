"""Embedded worlds with an exact gold reward, for tests, teaching and monitors."""

"""The drawings of the report as inline SVG: the only folder that imports matplotlib.

Colours are written as the light theme's values and then replaced by CSS variables of the page, and text keeps
the page's font, so that one drawing serves light, dark and print.
"""

"""Colours and shapes of all pictures, readable in print and by colour-blind people.

The colours are those of Okabe and Ito 2008 (*Color Universal Design*), without the yellow, which is invisible on paper.
Each series also has its own shape.
"""

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")

# The colour of a picture with a single series.
SINGLE = COLOURS[1]

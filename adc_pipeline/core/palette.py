"""Colours and shapes that hold in print and for colour-blind readers, for every picture of the project.

The colours are those of Okabe and Ito 2008 (*Color Universal Design*), without the yellow, which paper does not
show; each series also has a shape of its own.
"""

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SHAPES = ("o", "s", "^", "D", "v", "P", "X")

# Of a picture with a single series.
SINGLE = COLOURS[1]

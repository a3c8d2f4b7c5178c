"""One function a figure: arrays in, a matplotlib Figure out. No training, no files, no global state.

Everywhere `chance` is the accuracy of a blind guess, 1/p; `log` the log table (p,), 0 for the number 0; and `columns`
the most panels in a row. May import nothing else of modgrok.
"""

from modgrok.plots.answers import *
from modgrok.plots.cards import *
from modgrok.plots.inside import *
from modgrok.plots.learning import *
from modgrok.plots.structure import *
from modgrok.plots.style import *
from modgrok.plots.tasks import *

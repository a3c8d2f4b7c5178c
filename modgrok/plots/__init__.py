"""One function a figure: arrays in, a matplotlib Figure out. No training, no files, no global state.

May import nothing else of modgrok.
"""

from modgrok.plots.answers import *
from modgrok.plots.cards import *
from modgrok.plots.inside import *
from modgrok.plots.learning import *
from modgrok.plots.skills import *
from modgrok.plots.structure import *
from modgrok.plots.style import *
from modgrok.plots.tasks import *

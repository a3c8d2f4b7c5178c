"""Draw the README's figure from the shipped laptop run: python scripts/readme_figure.py"""

from modgrok import plots
from modgrok.config import preset
from modgrok.storage.find import find_run

run = find_run(preset("laptop"), "runs")
plots.training_curves(run.metrics, 1 / run.config.p).savefig("book/_static/learning.svg", facecolor="white")

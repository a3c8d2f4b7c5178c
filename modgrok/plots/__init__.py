"""One function a figure: arrays in, a matplotlib Figure out. No training, no files, no global state.

May import nothing else of modgrok.
"""

from modgrok.plots.answers import (
    ALGORITHM_COLORS,
    ALGORITHM_DASHES,
    KINDS,
    algorithm_agreement,
    correct_by_context,
    distance_and_agreement,
    distance_curves,
    model_and_predictors,
    query_grids,
    shot_maps,
)
from modgrok.plots.cards import question_card, seed_dots, seed_lines
from modgrok.plots.causes import OUTCOMES, patching_maps, progress_curves, swap_outcomes, turned_waves
from modgrok.plots.inside import attention_maps, head_gallery, head_habits
from modgrok.plots.learning import (
    PHASE_COLORS,
    accuracy_by_shot,
    accuracy_maps,
    factor_panels,
    ladder,
    phase_diagram,
    steps_and_work,
    training_curves,
    with_spread,
)
from modgrok.plots.skills import (
    alternation,
    arrival_steps,
    grid_wall,
    parts_lost,
    readout_by_kind,
    task_kind_curves,
)
from modgrok.plots.structure import (
    circle_of_circles,
    embedding_ring,
    group_scores,
    log_colors,
    log_planes,
    log_spectra,
    parity_planes,
    similarity_matrices,
)
from modgrok.plots.style import (
    CELL,
    COLORS,
    DARK,
    DASHES,
    DEPTHS,
    GREY,
    HELD_OUT,
    INK,
    INPUT,
    LABELS,
    MATCH,
    NARROW,
    PARITY,
    TARGET,
    blocks,
)
from modgrok.plots.tasks import consistent_tasks, four_sets, sequence_strips, task_tables

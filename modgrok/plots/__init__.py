"""One function a figure: arrays in, a matplotlib Figure out. No training, no files, no global state."""

from modgrok.plots.answers import (
    ALGORITHM_COLORS,
    ALGORITHM_DASHES,
    CORRECT,
    DIFFERENCE,
    INCORRECT,
    KINDS,
    TRUTH,
    against_predictors,
    explained,
    kinds_by_shot,
    kinds_by_step,
    nearest_predictor,
    query_answers,
    query_grids,
    shot_maps,
    which_algorithm,
)
from modgrok.plots.cards import question_card, seed_dots, seed_lines
from modgrok.plots.inside import attention_maps, head_habits, what_remains
from modgrok.plots.learning import (
    PHASE_COLORS,
    accuracy_by_shot,
    accuracy_maps,
    phase_diagram,
    seed_curves,
    steps_and_minutes,
    training_curves,
    with_spread,
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
    ATTENTION,
    COLORS,
    DASHES,
    DEPTHS,
    GREY,
    HELD_OUT,
    INK,
    INPUT,
    LABELS,
    MATCH,
    PARITY,
    STYLE,
    TARGET,
    blocks,
    figure,
    styled,
)
from modgrok.plots.tasks import consistent_tasks, four_sets, sequence_strips, task_tables

"""A run on disk: reading, finding, writing whole files, verifying.

May import config, data, model, predictors and evaluate.
"""

"""What stands around a training step: arithmetic, optimizers, who trains, signals, progress.

May import config, data, model, predictors, evaluate and storage.
"""

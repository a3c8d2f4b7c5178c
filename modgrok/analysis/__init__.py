"""Analyses of finished runs and models: arrays in, arrays out.

May import config, data, model, predictors, evaluate and storage.
"""

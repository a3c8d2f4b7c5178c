"""modgrok: train, evaluate and look into transformers that learn modular arithmetic in context."""

"""The training engine: data, step, checkpoints and curve, on Ray Train."""

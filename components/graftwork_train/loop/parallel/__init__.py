"""How a model is divided among workers: data, tensor and expert parallel."""

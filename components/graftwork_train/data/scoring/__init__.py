"""What selection methods score with: hashed words, a linear classifier, losses of models."""

"""Experiment trackers: a run's figures as they come, for TensorBoard, Weights & Biases or MLflow."""

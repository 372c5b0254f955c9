"""What becomes of a trained model: a file for others to load, pictures to look at."""

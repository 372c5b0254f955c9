"""What the scores measure: their names, the mathematics on given features, and how many images they need."""

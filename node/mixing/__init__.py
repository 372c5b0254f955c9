"""How a node mixes its own x with those that come in: by their mean, or by a rule that a bad peer cannot spoil."""

"""Feature networks for scoring: small classifiers with their weights and the scripts that train them."""

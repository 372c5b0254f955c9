"""Networks as graphs: routes between their end nodes, and what of these a plan holds."""

"""Writers of a plan in the formats of other tools: one module a format, each pure: a plan in, texts and notes out."""

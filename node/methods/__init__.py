"""The methods that a spec can name: settings, needs and traffic of each. Imports no torch."""

"""Code generated from proto/exchange.proto and proto/control.proto, and the conversion of a step's figures."""

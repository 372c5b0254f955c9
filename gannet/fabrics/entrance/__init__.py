"""Where a controller's services are reached: mutual TLS, limits for each peer, and gRPC behind them."""

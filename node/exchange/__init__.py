"""Exchange over gRPC: the real network between nodes.

`GrpcExchange` joins the three parts: `sender` (streams to the neighbours), `server` (the gate for what
comes in) and `shelf` (where the training thread finds it).
"""

from gannet.node.exchange.grpc_exchange import GrpcExchange

__all__ = ["GrpcExchange"]

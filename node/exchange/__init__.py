"""Exchange over gRPC: the real network between nodes.

`GrpcExchange` joins the three segments: `sender` (streams to the neighbours), `server` (the gate for what
comes in) and `inbox` (where the training thread finds it).
"""

from gannet.node.exchange.grpc_exchange import GrpcExchange

__all__ = ["GrpcExchange"]

"""Exchange over gRPC: the real network between nodes.

`GrpcExchange` joins three parts: `sender` (streams to the neighbours), `server` (checks incoming messages) and
`blocking_mailbox` (from which the training thread takes them).
"""

from gannet.node.exchange.grpc_exchange import GrpcExchange

__all__ = ["GrpcExchange"]

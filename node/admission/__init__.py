"""Who may connect to whom: identities for TLS with the controller, and limits for each peer."""

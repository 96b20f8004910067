//! A changing set of addresses becomes callable, health-checked, balanced gRPC channels.

//! The bytes of a Prometheus TSDB: chunks of every encoding, decoded to arrays and encoded again.

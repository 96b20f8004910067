//! Tests that run whole services together, against real parts.

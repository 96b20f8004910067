//! What a process says about itself: logs, traces, metrics, readiness.

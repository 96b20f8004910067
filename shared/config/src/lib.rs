//! Layers of configuration: defaults, file, environment, flags, into typed structs.

//! One PromQL view over all endpoints: fan-out, merge, deduplication, HTTP API.

//! StoreAPI and Info spoken by client and server: frames, requests, status mapping.

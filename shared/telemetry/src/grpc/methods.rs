//! Which methods there are, out of their descriptors.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prost::Message;

/// The labels of a method.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Method {
    pub(crate) grpc_method: Arc<str>,
    pub(crate) grpc_service: Arc<str>,
    pub(crate) grpc_type: &'static str,
}

impl Method {
    pub(crate) fn unknown() -> Self {
        Self { grpc_method: "unknown".into(), grpc_service: "unknown".into(), grpc_type: "unary" }
    }
}

/// Returns the methods by their paths. Bytes that are no descriptor set name no methods.
pub(crate) fn of(descriptors: &[&[u8]]) -> HashMap<String, Method> {
    let sets = descriptors.iter().filter_map(|bytes| prost_types::FileDescriptorSet::decode(*bytes).ok());
    let mut methods = HashMap::new();
    for file in sets.flat_map(|set| set.file) {
        for service in &file.service {
            let name: Arc<str> = match file.package() {
                "" => service.name().into(),
                package => format!("{package}.{}", service.name()).into(),
            };
            for method in &service.method {
                let grpc_type = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => "unary",
                    (false, true) => "server_stream",
                    (true, false) => "client_stream",
                    (true, true) => "bidi_stream",
                };
                let labels = Method { grpc_method: method.name().into(), grpc_service: Arc::clone(&name), grpc_type };
                methods.insert(format!("/{name}/{}", method.name()), labels);
            }
        }
    }
    methods
}

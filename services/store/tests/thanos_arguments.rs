//! The arguments that kube-thanos and Bitnami's chart render for Thanos' store parse.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_config::parse;
use farview_store::Config;

const OBJSTORE: &str = "--objstore.config=type: S3\nconfig:\n  bucket: thanos\n  endpoint: minio.minio.svc:9000\n  \
                        insecure: true\n  access_key: a\n  secret_key: b\n";

const RENDERED: &[&[&str]] = &[
    // kube-thanos
    &[
        "--log.level=info",
        "--log.format=logfmt",
        "--data-dir=/var/thanos/store",
        "--grpc-address=0.0.0.0:10901",
        "--http-address=0.0.0.0:10902",
        OBJSTORE,
        "--ignore-deletion-marks-delay=24h",
    ],
    &[
        OBJSTORE,
        "--index-cache.config=\"config\":\n  \"max_size\": \"500MB\"\n\"type\": \"in-memory\"\n",
        "--store.caching-bucket.config=\"type\": \"in-memory\"\n\"config\":\n  \"max_size\": \"250MB\"\n",
        "--min-time=-6w",
        "--max-time=-2h",
        "--tracing.config=\"type\": \"OTLP\"\n\"config\": {}\n",
    ],
    // Bitnami
    &[
        "--log.level=info",
        "--log.format=logfmt",
        "--grpc-address=0.0.0.0:10901",
        "--http-address=0.0.0.0:10902",
        "--data-dir=/data",
        "--objstore.config-file=/conf/objstore.yml",
    ],
    &[
        "--objstore.config-file=/conf/objstore.yml",
        "--index-cache.config-file=/conf/cache/config.yml",
        "--store.caching-bucket.config-file=/conf/caching-bucket/config.yml",
        "--grpc-server-tls-cert=/certs/tls.crt",
        "--grpc-server-tls-key=/certs/tls.key",
        "--grpc-server-tls-client-ca=/certs/ca.crt",
        "--http.config=/conf/http-config.yml",
        "--min-time=-2w",
        "--max-time=-1d",
        "--selector.relabel-config=- action: hashmod\n  source_labels: [\"__block_id\"]\n  target_label: shard\n  modulus: 2\n\
         - action: keep\n  source_labels: [\"shard\"]\n  regex: 0\n",
    ],
];

#[test]
fn what_kube_thanos_and_bitnami_render_parses() {
    for arguments in RENDERED {
        parse::<Config>(arguments.iter().copied()).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
}

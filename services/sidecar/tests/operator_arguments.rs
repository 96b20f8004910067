//! Every argument vector that the Prometheus Operator renders for `spec.thanos` parses.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_config::parse;
use farview_sidecar::Config;

const ALWAYS: [&str; 4] = [
    "--prometheus.url=http://localhost:9090/",
    "--grpc-address=:10901",
    "--http-address=:10902",
    "--prometheus.http-client-file=/etc/thanos/config/prometheus.http-client-file.yaml",
];

#[test]
fn what_the_operator_renders_parses() {
    let sets: [&[&str]; 10] = [
        &[],
        &[
            "--prometheus.url=https://localhost:9090/prefix",
            "--grpc-address=127.0.0.1:10901",
            "--http-address=127.0.0.1:10902",
        ],
        &[
            "--grpc-server-tls-cert=/etc/tls/tls.crt",
            "--grpc-server-tls-key=/etc/tls/tls.key",
            "--grpc-server-tls-client-ca=/etc/tls/ca.crt",
            "--grpc-server-tls-min-version=1.2",
            "--grpc-server-tls-ciphers=TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384",
            "--grpc-server-tls-curves=X25519,CurveP256",
        ],
        &["--objstore.config=type: S3\nconfig:\n  bucket: b\n", "--tsdb.path=/prometheus"],
        &["--objstore.config-file=/etc/thanos/objstore.yaml", "--tsdb.path=/prometheus"],
        &["--shipper.meta-file-name=thanos.shipper.json", "--shipper.ignore-unequal-block-size"],
        &["--tracing.config=type: OTLP\nconfig: {}\n"],
        &["--tracing.config-file=/etc/thanos/tracing.yaml", "--log.level=debug", "--log.format=json"],
        &["--min-time=-3d", "--prometheus.ready_timeout=20m"],
        &[
            "--prometheus.get_config_timeout=5s",
            "--prometheus.get_config_interval=1m",
            "--min-time=2024-01-01T00:00:00Z",
        ],
    ];
    for set in sets {
        // A later --prometheus.url replaces the one in front, as kubelet would pass it only once.
        let given = |flag: &&&str| !set.iter().any(|other| other.split('=').next() == flag.split('=').next());
        let argv: Vec<&str> = ALWAYS.iter().filter(given).chain(set).copied().collect();
        parse::<Config>(argv.iter().copied()).unwrap_or_else(|error| panic!("{argv:?}: {error}"));
    }
}

#[test]
fn a_misspelt_flag_is_an_error_that_names_the_right_one() {
    let error = parse::<Config>(["--prometheus.urll=http://localhost:9090"]).unwrap_err().to_string();
    assert!(error.contains("--prometheus.url"), "{error}");
}

//! The arguments that kube-thanos and Bitnami's chart render for Thanos' query parse, and mean what they mean there.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_config::parse;
use farview_query::Config;

const KUBE_THANOS: &[&[&str]] = &[
    &[
        "--grpc-address=0.0.0.0:10901",
        "--http-address=0.0.0.0:9090",
        "--log.level=info",
        "--log.format=logfmt",
        "--query.replica-label=replica",
        "--query.replica-label=prometheus_replica",
        "--query.replica-label=rule_replica",
        "--endpoint=dnssrv+_grpc._tcp.thanos-store.thanos.svc.cluster.local:10901",
        "--endpoint=dnssrv+_grpc._tcp.thanos-receive.thanos.svc.cluster.local:10901",
        "--query.auto-downsampling",
    ],
    &[
        "--web.external-prefix=/thanos",
        "--web.prefix-header=X-Forwarded-Prefix",
        "--query.timeout=5m",
        "--query.lookback-delta=15m",
        "--query.promql-engine=thanos",
        "--alert.query-url=https://thanos.example.com",
        "--tracing.config=\"config\":\n  \"sampler_param\": 2\n\"type\": \"OTLP\"\n",
    ],
    &[
        "--query.telemetry.request-duration-seconds-quantiles=0.1",
        "--query.telemetry.request-duration-seconds-quantiles=0.25",
        "--query.telemetry.request-samples-quantiles=100",
        "--query.telemetry.request-samples-quantiles=1000",
        "--query.telemetry.request-series-seconds-quantiles=10",
    ],
];

const BITNAMI: &[&[&str]] = &[
    &[
        "--log.level=info",
        "--log.format=logfmt",
        "--grpc-address=0.0.0.0:10901",
        "--http-address=0.0.0.0:10902",
        "--query.replica-label=replica",
        "--endpoint=dnssrv+_grpc._tcp.thanos-storegateway.monitoring.svc.cluster.local",
        "--endpoint=prometheus-operated.monitoring.svc:10901",
        "--endpoint-group=thanos-query-group.monitoring.svc:10901",
        "--alert.query-url=http://thanos.example.com",
    ],
    &[
        "--grpc-server-tls-cert=/certs/server/tls.crt",
        "--grpc-server-tls-key=/certs/server/tls.key",
        "--grpc-server-tls-client-ca=/certs/server/ca.crt",
        "--grpc-client-tls-secure",
        "--grpc-client-tls-cert=/certs/client/tls.crt",
        "--grpc-client-tls-key=/certs/client/tls.key",
        "--grpc-client-tls-ca=/certs/client/ca.crt",
        "--grpc-client-tls-skip-verify",
        "--grpc-client-server-name=thanos.example.com",
        "--http.config=/conf/http-config.yml",
        "--store.sd-files=/conf/sd/servicediscovery.yml",
    ],
];

#[test]
fn what_kube_thanos_and_bitnami_render_parses() {
    for arguments in KUBE_THANOS.iter().chain(BITNAMI) {
        parse::<Config>(arguments.iter().copied()).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
    parse::<Config>(KUBE_THANOS.concat()).unwrap();
}

/// Thanos took these away in 0.38; kube-thanos renders the first one where rulers are named.
#[test]
fn a_removed_flag_says_what_to_use() {
    for flag in ["rule", "store", "metadata", "exemplar", "target"] {
        let error = parse::<Config>([format!("--{flag}=thanos-rule.thanos.svc:10901")]).unwrap_err().to_string();
        assert!(error.contains(&format!("--{flag}")) && error.contains("--endpoint"), "{error}");
    }
}

use std::io::Write;

use super::*;
use crate::{PairSpec, PathOrContent, PromDuration, Secret, TimeOrDuration};

#[derive(Debug)]
struct Tracing;

impl PairSpec for Tracing {
    const NAME: &'static str = "tracing.config";
    const ABOUT: &'static str = "YAML with the tracing configuration";
    const GROUP: &'static str = "Tracing";
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum Level {
    Debug,
    Info,
}

/// Has one flag of every sort, and the pair that is leaf and prefix.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Query")]
struct Config {
    /// Endpoints.
    #[arg(long = "endpoint")]
    endpoints: Vec<String>,
    /// Endpoint file.
    #[arg(long = "endpoint.sd-config-file")]
    endpoint_file: Option<String>,
    /// Labels, comma lists allowed.
    #[arg(long = "query.replica-label", value_delimiter = ',')]
    replica_labels: Vec<String>,
    /// Time-out.
    #[arg(long = "query.timeout", default_value = "2m")]
    timeout: PromDuration,
    /// Start.
    #[arg(long = "min-time", default_value = TimeOrDuration::MIN)]
    min_time: TimeOrDuration,
    /// A switch that is off.
    #[arg(long = "query.auto-downsampling")]
    auto_downsampling: bool,
    /// A switch that is on.
    #[arg(long = "query.partial-response", default_value_t = true)]
    partial_response: bool,
    /// An optional switch.
    #[arg(long = "log.level", value_enum, default_value = "info")]
    level: Level,
    /// Hidden.
    #[arg(long = "shipper.ignore-unequal-block-size", hide = true)]
    ignore_unequal: bool,
    /// A number.
    #[arg(long = "query.max-concurrent", default_value_t = 20)]
    max_concurrent: usize,
    /// A password.
    #[arg(long = "query.password")]
    password: Option<Secret>,
    /// An address.
    #[arg(long = "prometheus.url", default_value = "http://localhost:9090")]
    url: String,
    #[command(flatten)]
    tracing: PathOrContent<Tracing>,
}

impl Flags for Config {
    const SERVICE: &'static str = "query";
    const ABOUT: &'static str = "Answers.";
    const REMOVED: &'static [(&'static str, &'static str)] = &[("store", "use --endpoint")];
}

fn parsed(argv: &[&str]) -> Config {
    parse(argv).unwrap_or_else(|e| panic!("{argv:?}: {e}"))
}

fn refused(argv: &[&str]) -> String {
    parse::<Config>(argv).map(|c| panic!("{c:?}")).unwrap_err().to_string()
}

#[test]
fn the_habits_of_kingpin_are_kept() {
    assert_eq!(parsed(&["--query.timeout=5m"]).timeout, PromDuration::from_secs(300));
    assert_eq!(parsed(&["--query.timeout", "5m"]).timeout, PromDuration::from_secs(300));
    assert_eq!(parsed(&["--min-time=-2w"]).min_time, TimeOrDuration::Relative(-1_209_600_000));
    assert_eq!(parsed(&["--min-time", "-2w"]).min_time, TimeOrDuration::Relative(-1_209_600_000));
    assert_eq!(parsed(&["--endpoint=a:1,b:2", "--endpoint", "c:3"]).endpoints, ["a:1,b:2", "c:3"]);
    assert_eq!(parsed(&["--query.replica-label=a,b", "--query.replica-label=c"]).replica_labels, ["a", "b", "c"]);
    assert!(parsed(&["--shipper.ignore-unequal-block-size"]).ignore_unequal);
}

#[test]
fn a_switch_is_turned_on_and_off_and_the_last_word_counts() {
    assert!(!parsed(&[]).auto_downsampling);
    assert!(parsed(&["--query.auto-downsampling"]).auto_downsampling);
    assert!(!parsed(&["--no-query.auto-downsampling"]).auto_downsampling);
    assert!(parsed(&["--query.auto-downsampling=true"]).auto_downsampling);
    assert!(!parsed(&["--query.auto-downsampling=false"]).auto_downsampling);
    assert!(!parsed(&["--query.auto-downsampling", "--no-query.auto-downsampling"]).auto_downsampling);
    assert!(parsed(&["--no-query.auto-downsampling", "--query.auto-downsampling"]).auto_downsampling);
    assert!(parsed(&[]).partial_response);
    assert!(!parsed(&["--no-query.partial-response"]).partial_response);
    assert!(parsed(&["--query.auto-downsampling", "--query.timeout=1s"]).auto_downsampling);
}

#[test]
fn arguments_come_from_files_too() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "# endpoints\n--endpoint=a:1\n\n--endpoint\nb:2\n").unwrap();
    let at = format!("@{}", file.path().display());
    assert_eq!(parsed(&["--query.timeout=1m", &at, "--endpoint=c:3"]).endpoints, ["a:1", "b:2", "c:3"]);
    assert!(refused(&["@/no/such/file"]).starts_with("read /no/such/file: "));
}

#[test]
fn refusals_name_the_culprit_and_the_way_out() {
    let cases: &[(&[&str], &str)] = &[
        (&["--query.timout=1m"], "unknown flag --query.timout, did you mean --query.timeout?"),
        (&["--zzz"], "unknown flag --zzz"),
        (&["--store=a:1"], "flag --store is not supported: use --endpoint"),
        (&["--no-store"], "unknown flag --no-store"),
        (&["--query.timeout", "--endpoint=a"], "flag --query.timeout needs a value"),
        (
            &["--query.timeout=abc"],
            "invalid value \"abc\" for --query.timeout: not a duration, expected for example 30s, 5m or 1h30m",
        ),
        (&["--log.level=loud"], "invalid value \"loud\" for --log.level: valid values are debug, info"),
        (
            &["--tracing.config=a", "--tracing.config-file=b"],
            "--tracing.config and --tracing.config-file are mutually exclusive, give one of them",
        ),
    ];
    for (argv, message) in cases {
        assert_eq!(refused(argv), *message, "{argv:?}");
    }
    assert!(refused(&["--query.timeout"]).contains("--query.timeout"));
    assert!(refused(&["--query.timeout=1m", "--query.timeout=2m"]).contains("cannot be used multiple times"));
    assert!(refused(&["stray"]).contains("stray"));
}

fn with_layers(file: &str, env: &[(&str, &str)], argv: &[&str]) -> Result<Loaded<Config>, Error> {
    let mut on_disk = tempfile::NamedTempFile::new().unwrap();
    on_disk.write_all(file.as_bytes()).unwrap();
    let path = format!("--farview.config-file={}", on_disk.path().display());
    let argv = std::iter::once(path).chain(argv.iter().map(ToString::to_string));
    load(argv, |name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string()))
}

#[test]
fn later_layers_win_and_every_value_tells_where_it_came_from() {
    let file = "
        query: {timeout: 1m, max-concurrent: 7, auto-downsampling: yes, replica-label: [a, b]}
        endpoint: {addresses: [file:1], sd-config-file: eps.yaml}
        log.level: debug
        min-time: -1d
    ";
    let env = [
        ("FARVIEW_QUERY_QUERY_TIMEOUT", "2s"),
        ("FARVIEW_QUERY_ENDPOINT", "env:1, env:2"),
        ("FARVIEW_QUERY_PORT", "tcp://x"),
    ];
    let loaded = with_layers(file, &env, &["--query.timeout=3s", "--no-query.auto-downsampling"]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.timeout, PromDuration::from_secs(3));
    assert_eq!(config.max_concurrent, 7);
    assert!(!config.auto_downsampling);
    assert_eq!(config.replica_labels, ["a", "b"]);
    assert_eq!(config.endpoints, ["env:1", "env:2"]);
    assert_eq!(config.endpoint_file.as_deref(), Some("eps.yaml"));
    assert_eq!(config.level, Level::Debug);
    assert_eq!(config.min_time, TimeOrDuration::Relative(-86_400_000));
    let shown = |flag: &str| {
        let v = loaded.effective.get(flag).unwrap();
        (v.value.clone(), v.origin)
    };
    assert_eq!(shown("query.timeout"), ("3s".to_owned(), Origin::Flag));
    assert_eq!(shown("endpoint"), ("env:1,env:2".to_owned(), Origin::Env));
    assert_eq!(shown("endpoint.sd-config-file"), ("eps.yaml".to_owned(), Origin::File));
    assert_eq!(shown("query.max-concurrent"), ("7".to_owned(), Origin::File));
    assert_eq!(shown("query.partial-response"), ("true".to_owned(), Origin::Default));
    assert_eq!(shown("query.auto-downsampling"), ("false".to_owned(), Origin::Flag));
}

#[test]
fn mistakes_in_lower_layers_are_found_and_placed() {
    let error = |file: &str, env: &[(&str, &str)]| with_layers(file, env, &[]).unwrap_err().to_string();
    let text = error("query: {timout: 1m}", &[]);
    assert!(text.ends_with("unknown key \"query.timout\", did you mean query.timeout?"), "{text}");
    let text = error("query: {timeout: abc}", &[]);
    assert!(text.starts_with("invalid value \"abc\" for --query.timeout (from key query.timeout of"), "{text}");
    let text = error("", &[("FARVIEW_QUERY_LOG_LEVEL", "loud")]);
    assert!(text.contains("(from environment variable FARVIEW_QUERY_LOG_LEVEL)"), "{text}");
    let text = error("endpoint: [a:1]", &[]);
    assert!(text.contains("key endpoint: ") && text.contains("line 1"), "{text}");
    let text = error("query.timeout: 1m\nquery: {timeout: 1m}", &[]);
    assert!(text.contains("key query.timeout is given twice"), "{text}");
    assert!(with_layers("", &[("FARVIEW_QUERY_QUERY_TIMEOUT", "")], &[]).is_ok());
}

#[test]
fn secrets_are_never_in_effect_where_they_can_be_seen() {
    let argv = ["--query.password=hunter2", "--tracing.config=token: hunter2", "--prometheus.url=http://a:hunter2@b"];
    let loaded = load::<Config>(argv, |_| None).unwrap();
    assert_eq!(loaded.config.password.as_ref().map(Secret::expose), Some("hunter2"));
    let shown = format!("{} {:?}", serde_json::to_string(&loaded.effective).unwrap(), loaded.config.tracing);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(loaded.effective.get("prometheus.url").unwrap().value, "http://a:<secret>@b");
}

#[test]
fn flags_of_the_go_runtime_are_accepted_and_named() {
    let loaded = load::<Config>(["--enable-auto-gomemlimit", "--auto-gomemlimit.ratio=0.5"], |_| None).unwrap();
    assert_eq!(loaded.ignored.len(), 2);
    assert!(load::<Config>([] as [&str; 0], |_| None).unwrap().ignored.is_empty());
}

#[test]
fn help_is_grouped_and_shows_defaults_and_variables() {
    let Err(Error::HelpRequested(help)) = parse::<Config>(["--help"]) else { panic!("no help") };
    for part in ["Query:", "Tracing:", "--query.timeout <DURATION>", "[default: 2m]", "FARVIEW_QUERY_QUERY_TIMEOUT"] {
        assert!(help.contains(part), "{part} not in\n{help}");
    }
    assert!(!help.contains("no-query") && !help.contains("shipper"), "{help}");
    assert!(matches!(parse::<Config>(["--version"]), Err(Error::VersionRequested)));
}

#[test]
fn a_collision_of_keys_is_found() {
    command::<Config>().1.check().unwrap();

    #[derive(Debug, clap::Args)]
    struct Colliding {
        #[arg(long = "a.b")]
        leaf: Option<String>,
        #[arg(long = "a.b.c")]
        below: Option<String>,
    }
    impl Flags for Colliding {
        const SERVICE: &'static str = "colliding";
        const ABOUT: &'static str = "Collides.";
    }
    assert!(matches!(command::<Colliding>().1.check(), Err(Error::Collision { .. })));
}

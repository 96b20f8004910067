//! The image: packed from the static binary by the script that `./justw image` calls, unpacked, and run as Kubernetes would.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::Farview;
use farview_integration::kubernetes::{repository, tool};
use farview_integration::measure::free;
use farview_integration::process::Answer;
use farview_testkit::prometheus::{Prometheus, ScrapeTarget, Version};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A user that no file of the image belongs to: clusters such as OpenShift choose one.
const USER: &str = "123456789";

/// Runs a program, which must succeed; returns what it prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Returns the binary that is linked as that of the image.
fn binary() -> PathBuf {
    let binary = farview_integration::binary().unwrap().with_file_name("farview-static");
    assert!(binary.is_file(), "no {}: run `./justw static`", binary.display());
    binary
}

/// Packs an image; returns its layout and what the layout says of it.
fn pack(dir: &Path, name: &str) -> (PathBuf, Value) {
    let layout = dir.join(name);
    run(Command::new(repository().join("integration/tools/image")).args([&binary(), &layout]));
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    (layout, serde_json::from_str(&index).unwrap())
}

fn blob(layout: &Path, digest: &Value) -> Value {
    let path = layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_runs_as_any_user_on_a_root_that_it_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, index) = pack(dir.path(), "image");
    let (_, again) = pack(dir.path(), "again");
    assert_eq!(index, again, "the same binary gives the same image");

    let config = blob(&layout, &blob(&layout, &index["manifests"][0]["digest"])["config"]["digest"]);
    assert_eq!(config["os"], "linux");
    let config = &config["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/bin/farview"]));
    assert_eq!(config["Cmd"], Value::Null, "arguments are the pod's");
    assert_eq!(config["User"], "65534:65534");
    for label in ["title", "description", "version", "revision", "created", "licenses"] {
        let value = &config["Labels"][format!("org.opencontainers.image.{label}")];
        assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{label}: {config}");
    }

    let bundle = dir.path().join("bundle");
    let version = env!("CARGO_PKG_VERSION");
    let image = format!("{}:{version}", layout.display());
    run(Command::new(tool("umoci/usr/bin/umoci").unwrap())
        .args(["unpack", "--rootless", "--image", &image])
        .arg(&bundle));
    let root = bundle.join("rootfs");
    the_list_of_parts_is_whole(&root);
    // What a kubelet puts into every container.
    std::fs::write(root.join("etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();

    // As the Prometheus Operator runs it: the same network as Prometheus, its data mounted, nothing else to write to.
    let target = ScrapeTarget::start(3).await.unwrap();
    let prometheus = Prometheus::builder()
        .job("job", [target.addr()])
        .version(Version::Three)
        .external_label("cluster", "east")
        .arg("--storage.tsdb.min-block-duration=2h")
        .arg("--storage.tsdb.max-block-duration=2h")
        .start()
        .await
        .unwrap();
    let http = "tls_config: {insecure_skip_verify: true}\n";
    let bucket = dir.path().join("bucket");
    std::fs::create_dir(&bucket).unwrap();
    let container = Container { root: &root, dir: dir.path() };
    let sidecar = container.start(
        "sidecar",
        &[(prometheus.dir(), "/prometheus"), (&bucket, "/bucket")],
        &[
            &format!("--prometheus.url={}", prometheus.url()),
            &format!("--prometheus.http-client={http}"),
            "--objstore.config=type: FILESYSTEM\nconfig: {directory: /bucket}\n",
            "--tsdb.path=/prometheus",
            "--log.format=json",
            "--request.logging-config=grpc: {options: {decision: {log_end: true}}}",
        ],
    );
    let requests = "--request.logging-config=http: {options: {decision: {log_end: true}}}";
    let mut query = container.start("query", &[], &[&format!("--endpoint={}", sidecar.grpc), requests]);
    query.ready().await.unwrap();
    let up = |answer: &Answer| answer.is_complete() && answer.vector().iter().any(|(_, value)| value == "1");
    query.until("sum by (cluster) (up)", &[], "the sidecar's answer", up).await.unwrap();
    let stores = query.get("/api/v1/stores", &[]).await.unwrap();
    let stores = stores.json["data"]["sidecar"].as_array().cloned().unwrap_or_default();
    assert_eq!(stores.len(), 1, "{stores:?}");
    assert_eq!(stores[0]["lastError"], Value::Null, "{stores:?}");
    assert!(query.log().contains(r#"msg="finished call" protocol=http request="GET /api/v1/query" code=200"#));
    assert!(sidecar.log().contains(r#""request":"/thanos.Store/Series","code":"OK""#), "{}", sidecar.log());
    assert!(!sidecar.log().contains("panicked") && !query.log().contains("panicked"));
}

/// The list names what is linked in, with versions and licences, and no path of the machine that made it.
fn the_list_of_parts_is_whole(root: &Path) {
    let text = std::fs::read_to_string(root.join("usr/share/doc/farview/sbom.json")).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["bomFormat"], "CycloneDX");
    let parts = list["components"].as_array().unwrap();
    let names: Vec<&str> = parts.iter().map(|part| part["name"].as_str().unwrap()).collect();
    for name in ["farview-query", "tonic", "hickory-resolver", "object_store", "prometheus-client", "config"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(!names.contains(&"proptest"), "what only tests need is not in the binary");
    assert!(parts.iter().all(|part| part["version"].is_string()));
    let here = std::env::temp_dir();
    assert!(!text.contains(&*here.to_string_lossy()) && !text.contains(&*repository().to_string_lossy()));
}

/// What runs processes in the unpacked image.
struct Container<'a> {
    root: &'a Path,
    dir: &'a Path,
}

impl Container<'_> {
    /// Starts a service as [`USER`]; of the machine it sees the network and the mounted folders.
    fn start(&self, service: &str, mounts: &[(&Path, &str)], args: &[&str]) -> Farview {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut all: Vec<String> =
            ["--unshare-user", "--unshare-pid", "--uid", USER, "--gid", USER, "--die-with-parent", "--bind"]
                .map(str::to_owned)
                .to_vec();
        all.extend([text(self.root), "/".to_owned()]);
        for system in ["--proc", "/proc", "--dev", "/dev"] {
            all.push(system.to_owned());
        }
        for (folder, inside) in mounts {
            all.extend(["--bind".to_owned(), text(folder), (*inside).to_owned()]);
        }
        all.extend(["--remount-ro", "/", "/usr/bin/farview", service].map(str::to_owned));
        let (http, grpc) = (free().unwrap(), free().unwrap());
        all.extend([format!("--http-address={http}"), format!("--grpc-address={grpc}")]);
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        let bwrap = tool("bubblewrap/usr/bin/bwrap").unwrap();
        Farview::start_as(&bwrap, self.dir, service, (http, grpc), all, BTreeMap::new()).unwrap()
    }
}

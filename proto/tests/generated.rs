//! The generated code is committed, so that building needs no protobuf compiler at all.
//! This test generates it anew and compares; `UPDATE_PROTO=1` writes it instead (`just proto`).
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::{Path, PathBuf};

const ROOTS: &[&str] = &[
    "store/storepb/rpc.proto",
    "store/hintspb/hints.proto",
    "info/infopb/rpc.proto",
    "rules/rulespb/rpc.proto",
    "targets/targetspb/rpc.proto",
    "metadata/metadatapb/rpc.proto",
    "exemplars/exemplarspb/rpc.proto",
    "status/statuspb/rpc.proto",
    "api/query/querypb/query.proto",
    "prompb/remote.proto",
];

#[test]
fn committed_code_is_what_the_proto_files_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fds = protox::compile(ROOTS, [root]).expect("the .proto files compile");
    let out = std::env::temp_dir().join(format!("farview-proto-{}", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    std::fs::write(out.join("descriptor.bin"), prost::Message::encode_to_vec(&fds)).unwrap();
    tonic_prost_build::configure().bytes(".").out_dir(&out).compile_fds(fds).expect("code is generated");

    let committed = root.join("src/generated");
    let update = std::env::var_os("UPDATE_PROTO").is_some();
    for file in files(&out) {
        let fresh = std::fs::read(out.join(&file)).unwrap();
        let target = committed.join(&file);
        if update {
            std::fs::write(&target, &fresh).unwrap();
        } else {
            let old = std::fs::read(&target).unwrap_or_default();
            assert!(old == fresh, "{} is out of date: run `just proto`", target.display());
        }
    }
    assert_eq!(files(&out), files(&committed), "a generated file has no .proto any more");
    std::fs::remove_dir_all(&out).unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name())).collect();
    names.sort();
    names
}

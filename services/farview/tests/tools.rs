//! The tools for buckets, as a person uses them: blocks that promtool wrote go into a bucket and are looked at there.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_testkit::prometheus::Version;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

struct World {
    root: tempfile::TempDir,
}

impl World {
    /// Two blocks of two hours, written by promtool.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut text = "# TYPE requests counter\n".to_owned();
        for (pod, factor) in [("a", 1), ("b", 2)] {
            for minute in 0..240 {
                let t = 1_767_225_600 + minute * 60;
                writeln!(text, "requests_total{{pod=\"{pod}\"}} {} {t}", minute * factor).unwrap();
            }
        }
        text.push_str("# EOF\n");
        let source = root.path().join("openmetrics");
        std::fs::write(&source, text).unwrap();
        let status = Command::new(Version::Three.promtool().unwrap())
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&source, &root.path().join("data")])
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        std::fs::create_dir(root.path().join("bucket")).unwrap();
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Runs a tool; returns its exit code, what it found, and what it said.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let yaml = format!("type: FILESYSTEM\nconfig: {{directory: {}}}\n", self.path("bucket").display());
        let output = Command::new(env!("CARGO_BIN_EXE_farview"))
            .args(["tools", "bucket", &format!("--objstore.config={yaml}")])
            .args(args)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    fn found(&self, args: &[&str]) -> String {
        let (code, out, said) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {out}{said}");
        out
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

#[test]
fn blocks_are_uploaded_looked_at_marked_and_deleted() {
    let world = World::new();
    let data = format!("--path={}", world.path("data").display());
    let (code, _, said) = world.run(&["upload-blocks", &data]);
    assert!(code == 2 && said.contains("--label"), "{said}");
    let out = world.found(&["upload-blocks", &data, "--label", "cluster=\"east\"", "--label=replica=\"a\""]);
    assert!(out.ends_with("2 blocks uploaded\n"), "{out}");
    assert_eq!(world.found(&["upload-blocks", &data, "--label=cluster=\"east\""]), "0 blocks uploaded\n");

    let names = world.found(&["ls"]);
    let ids: Vec<&str> = names.lines().collect();
    assert_eq!(ids.len(), 2);
    let wide = world.found(&["ls", "-o", "wide"]);
    let line = wide.lines().find(|line| line.contains("2026-01-01T00:00:00Z - ")).unwrap();
    assert!(line.contains("Compaction: 1, Downsample: 0, Source: bucket.upload"), "{line}");
    assert_eq!(
        world.found(&["ls", "--output={{.ULID}} {{.Thanos.Labels.Cluster}}"]).lines().next().unwrap(),
        format!("{} east", ids[0])
    );
    assert_eq!(world.found(&["ls", "--min-time=2026-01-01T03:00:00Z"]).lines().count(), 1);
    assert!(world.found(&["ls", "-o=json"]).contains("\"replica\": \"a\""));

    let table = world.found(&["inspect", "-l", "cluster=\"east\"", "--sort-by=UNTIL"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("| cluster=east,replica=a | 0s ") && table.contains("UNTIL-DOWN"), "{table}");
    assert_eq!(world.found(&["inspect", "-l", "cluster=\"west\""]).lines().count(), 2);
    let csv = world.found(&["inspect", "--output=csv"]);
    assert!(csv.contains(",\"cluster=east,replica=a\",0s,bucket.upload\n") && csv.contains(",2,240,"), "{csv}");

    assert_eq!(world.found(&["verify"]), "2 blocks looked at, 0 found wrong\n");

    let mark = ["mark", "--marker=deletion-mark.json", "--details=not needed", "--id", ids[0]];
    assert!(world.found(&[&mark[..], &["--dry-run"]].concat()).contains("marked: deletion-mark.json (dry run)"));
    assert_eq!(world.found(&["ls", "--exclude-delete"]), names);
    world.found(&mark);
    assert!(world.found(&mark).contains("is marked already"));
    assert_eq!(world.found(&["ls", "--exclude-delete"]).trim(), ids[1]);
    // It is not old enough.
    assert_eq!(world.found(&["cleanup"]), "0 of 2 blocks deleted\n");
    let out = world.found(&["cleanup", "--delete-delay=0s", "--dry-run"]);
    assert!(out.contains("1 of 2 blocks would be deleted"), "{out}");
    assert_eq!(world.found(&["ls"]), names);
    world.found(&["cleanup", "--delete-delay=0s"]);
    assert_eq!(world.found(&["ls"]).trim(), ids[1]);
    assert!(!world.path("bucket").join(ids[0]).exists());
    let keep = ["mark", "--marker=no-compact-mark.json", "--details=looked into", "--id", ids[1]];
    world.found(&keep);
    assert!(world.path("bucket").join(ids[1]).join("no-compact-mark.json").exists());
    world.found(&["mark", "--marker=no-compact-mark.json", "--remove", "--id", ids[1]]);
    assert!(!world.path("bucket").join(ids[1]).join("no-compact-mark.json").exists());
}

#[test]
fn what_is_wrong_with_blocks_is_found() {
    let world = World::new();
    let data = format!("--path={}", world.path("data").display());
    world.found(&["upload-blocks", &data, "--label=cluster=\"east\""]);
    let names = world.found(&["ls"]);
    let ids: Vec<&str> = names.lines().collect();
    // The same block under another name: made of the same blocks, over the same time.
    let other = "01KE0000000000000000000000";
    copy(&world.path("bucket").join(ids[0]), &world.path("bucket").join(other));
    let meta = world.path("bucket").join(other).join("meta.json");
    let text = std::fs::read_to_string(&meta).unwrap().replacen(ids[0], other, 1);
    std::fs::write(&meta, text).unwrap();
    let (code, out, _) = world.run(&["verify"]);
    assert!(code == 1 && out.contains("made of the same blocks as") && out.contains(": overlaps "), "{out}");
    let (_, out, _) = world.run(&["verify", "--repair", "--issues=duplicated_compaction"]);
    assert!(out.contains("; marked for deletion"), "{out}");
    assert_eq!(world.found(&["verify"]), "2 blocks looked at, 0 found wrong\n");

    // A bit of a chunk, an index that is cut, a segment that is gone, a description that is none.
    let left = world.found(&["ls", "--exclude-delete"]);
    let id = left.lines().next().unwrap();
    let block = world.path("bucket").join(id);
    let damage = |path: &Path, change: &dyn Fn(&mut Vec<u8>), why: &str| {
        let good = std::fs::read(path).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        std::fs::write(path, bad).unwrap();
        let (code, out, _) = world.run(&["verify", "--id", id, "-i", "index_known_issues"]);
        assert!(code == 1 && out.contains(id) && out.contains(why), "{}: {out}", path.display());
        std::fs::write(path, good).unwrap();
    };
    damage(&block.join("chunks/000001"), &|bytes| bytes[40] ^= 1, "chunks/000001");
    damage(&block.join("index"), &|bytes| bytes.truncate(bytes.len() - 1), "index should have");
    damage(&block.join("meta.json"), &|bytes| bytes.truncate(10), "description");
    std::fs::remove_file(block.join("chunks/000001")).unwrap();
    let (code, out, _) = world.run(&["verify", "--id", id]);
    assert!(code == 1 && out.contains("is missing"), "{out}");
}

#[test]
fn what_is_not_understood_is_named() {
    let world = World::new();
    for (args, why) in [
        (&["lss"][..], "did you mean ls?"),
        (&[], "what to do"),
        (&["rewrite"], "not part of this version"),
        (&["ls", "--outptu=wide"], "--output"),
        (&["inspect", "--sort-by=SIZE"], "#SERIES"),
        (&["mark", "--id=x", "--marker=deletion-mark.json", "--details=x"], "--id"),
        (&["mark", "--id=01KE0000000000000000000000", "--marker=deletion-mark.json"], "--details"),
    ] {
        let (code, _, said) = world.run(args);
        assert!(code == 2 && said.contains(why), "{args:?}: {code} {said}");
    }
    let (code, out, _) =
        world.run(&["mark", "--id=01KE0000000000000000000000", "--marker=deletion-mark.json", "--details=x"]);
    assert!(code == 1 && out.contains("no such block"), "{out}");
    let help = Command::new(env!("CARGO_BIN_EXE_farview")).args(["tools", "bucket", "--help"]).output().unwrap();
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("upload-blocks"));
}

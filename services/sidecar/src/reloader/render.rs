//! From the configuration as it is mounted to the one that Prometheus reads.

use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::path::Path;

/// A configuration is no larger than this when unpacked, bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Unpacks gzip, known by its magic bytes; anything else, however short, stays as it is.
pub(super) fn inflate(raw: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    if !raw.starts_with(&[0x1f, 0x8b, 0x08]) {
        return Ok(raw);
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(&raw[..]).take(MAX_BYTES + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > MAX_BYTES {
        bail!("it unpacks to more than {MAX_BYTES} bytes");
    }
    Ok(plain)
}

/// Replaces `$(NAME)` by the environment; every other `$` stays. An unset variable is an error.
pub(super) fn expand(content: &[u8], lookup: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"$(") {
        let (before, tail) = rest.split_at(at);
        out.extend_from_slice(before);
        let name_len = tail[2..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        if name_len == 0 || tail.get(2 + name_len) != Some(&b')') {
            out.extend_from_slice(b"$(");
            rest = &tail[2..];
            continue;
        }
        let name = std::str::from_utf8(&tail[2..2 + name_len]).context("a name of ASCII letters")?;
        let value = lookup(name).with_context(|| format!("the environment variable {name} is not set"))?;
        out.extend_from_slice(value.as_bytes());
        rest = &tail[3 + name_len..];
    }
    out.extend_from_slice(rest);
    Ok(out)
}

/// Writes a file so that a reader sees the old content or the new one, whole; does nothing if it has the content already.
pub(super) fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    // Prometheus may run as another user.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable)?;
    file.persist(path)?;
    Ok(())
}

/// Returns the id of the process whose executable has this name.
pub(super) fn find_process(name: &str) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    entries.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let comm = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        // The kernel keeps fifteen bytes of a name.
        (comm.trim_end() == &name[..name.len().min(15)]).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_everything_else_stays() {
        let lookup = |name: &str| (name == "POD").then(|| "p$(POD)-0".to_owned());
        for (text, expected) in [
            ("replica: $(POD)", "replica: p$(POD)-0"),
            ("$POD ${POD} $( $(PO-D) $() $$(POD)", "$POD ${POD} $( $(PO-D) $() $p$(POD)-0"),
            ("", ""),
            ("$", "$"),
        ] {
            assert_eq!(String::from_utf8(expand(text.as_bytes(), lookup).unwrap()).unwrap(), expected);
        }
        assert!(expand(b"$(NOPE)", lookup).unwrap_err().to_string().contains("NOPE"));
    }

    #[test]
    fn gzip_is_unpacked_and_short_inputs_pass() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(b"global: {}").unwrap();
        assert_eq!(inflate(packed.finish().unwrap()).unwrap(), b"global: {}");
        for short in [&b""[..], b"\x1f", b"\x1f\x8b"] {
            assert_eq!(inflate(short.to_vec()).unwrap(), short);
        }
        assert!(inflate(vec![0x1f, 0x8b, 0x08, 0]).is_err());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.yml");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}

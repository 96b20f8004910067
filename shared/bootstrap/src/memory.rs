//! How much memory the process may use, as the container that it runs in says (cgroups, versions 1 and 2).

use std::path::Path;

/// A larger limit is none.
const NONE: u64 = 1 << 60;

/// Returns the least memory limit of the cgroups that the process is in, bytes; none if there is none.
fn memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&groups, Path::new("/sys/fs/cgroup"))
}

/// Returns what a bound of `wanted` bytes may be so that it takes no more than `percent` of the memory that the process may use, and
/// says so if that is less.
pub fn fit_memory(flag: &str, wanted: u64, percent: u64) -> u64 {
    let Some(limit) = memory_limit() else { return wanted };
    let share = limit / 100 * percent;
    if wanted <= share {
        return wanted;
    }
    tracing::warn!(
        "{flag} of {wanted} bytes is more than {percent} % of the {limit} that this process may use: {share} it is"
    );
    share
}

fn limit_of(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        match controllers {
            "" => least(root, path, "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                least(&root.join("memory"), path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min()
}

/// Returns the least limit of a group and all above it. Within a container the group may be the root of what is mounted.
fn least(root: &Path, group: &str, file: &str) -> Option<u64> {
    let group = root.join(group.trim_start_matches('/'));
    let above = group.ancestors().take_while(|path| path.starts_with(root));
    let limits = above.filter_map(|path| std::fs::read_to_string(path.join(file)).ok()?.trim().parse::<u64>().ok());
    limits.filter(|limit| *limit < NONE).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(limit_of("0::/a/b\n", root.path()), None);
        write("a/b/memory.max", "max\n");
        assert_eq!(limit_of("0::/a/b\n", root.path()), None);
        write("a/memory.max", "1000\n");
        assert_eq!(limit_of("0::/a/b\n", root.path()), Some(1_000));
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/x/memory.limit_in_bytes", "500\n");
        assert_eq!(limit_of("4:memory:/x\n1:cpu:/\n0::/a\n", root.path()), Some(500));
        assert_eq!(limit_of("4:memory:/y\nnonsense\n", root.path()), None);
    }
}
